"""How archives and segmenting tools name their folders and files: one module a layout; nothing else knows any."""

from __future__ import annotations

from hgpscale.cohort.layouts.folder import FOLDER
from hgpscale.cohort.layouts.found import Found, Layout, LeftOut, Note, Options, Outline
from hgpscale.cohort.layouts.hcc_tace import HCC_TACE
from hgpscale.cohort.layouts.lits import LITS
from hgpscale.cohort.layouts.msd import MSD
from hgpscale.cohort.layouts.nnunet import NNUNET
from hgpscale.cohort.layouts.tcia_crlm import TCIA_CRLM
from hgpscale.cohort.layouts.totalsegmentator import TOTALSEGMENTATOR
from hgpscale.cohort.layouts.worc import WORC

LAYOUTS = {layout.name: layout for layout in (FOLDER, WORC, TCIA_CRLM, HCC_TACE, MSD, LITS, NNUNET, TOTALSEGMENTATOR)}

__all__ = ["LAYOUTS", "Found", "Layout", "LeftOut", "Note", "Options", "Outline"]
