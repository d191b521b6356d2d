"""What is done to voxels before they are counted: choosing the region, resampling, discretising."""
