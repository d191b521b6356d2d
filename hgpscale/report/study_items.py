"""Checklists of reporting: which items a run answers itself, and which are left to the author.

The wording is ours and short; the papers have the items in full and say how to judge them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hgpscale.report.study_answers import ANSWERS
from hgpscale.report.study_read import Metrics


@dataclass(frozen=True)
class Item:
    """One item of a checklist.

    Attributes
    ----------
    number
        As in the paper.
    words
        What it asks for.
    status
        ``answered``: by this run; ``in part``: the author adds to it; ``open``: the author answers it.
    answer
        What the run says; empty where it is open.

    """

    number: str
    words: str
    status: str
    answer: str


@dataclass(frozen=True)
class Checklist:
    """A checklist with this run's answers."""

    name: str
    source: str
    items: tuple[Item, ...]

    @property
    def given(self) -> tuple[Item, ...]:
        """Items that the run answers, whole or in part."""
        return tuple(item for item in self.items if item.status != "open")

    @property
    def open(self) -> tuple[Item, ...]:
        """Items that are left to the author."""
        return tuple(item for item in self.items if item.status == "open")


def checklists(metrics: Metrics) -> list[Checklist]:
    """Return the three checklists with what this run answers."""
    lists = (
        ("TRIPOD+AI", _TRIPOD, _TRIPOD_ITEMS),
        ("CLEAR", _CLEAR, _CLEAR_ITEMS),
        ("METRICS", _METRICS, _METRICS_ITEMS),
    )
    return [Checklist(name, source, tuple(_items(metrics, text))) for name, source, text in lists]


def _items(metrics: Metrics, text: str) -> list[Item]:
    found = []
    for line in text.strip().splitlines():
        number, words, *key = (part.strip() for part in line.split("|"))
        name = key[0] if key else ""
        whole = not name.startswith("~")
        answer: Callable[[Metrics], str] | None = ANSWERS[name.lstrip("~")] if name else None
        said = answer(metrics) if answer else ""
        status = "open" if not said else "answered" if whole else "in part"
        found.append(Item(number, words, status, said))
    return found


_TRIPOD = (
    "Collins GS et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use "
    "regression or "
    "machine learning methods. BMJ 2024;385:e078378."
)
_CLEAR = "Kocak B et al. CheckList for EvaluAtion of Radiomics research (CLEAR). Insights into Imaging 2023;14:75."
_METRICS = "Kocak B et al. METhodological RadiomICs Score (METRICS). Insights into Imaging 2024;15:8."

# number | our words | the answer's name, with ~ where it answers a part only
_TRIPOD_ITEMS = """
1 | Title names the study as model development or evaluation, with population and outcome
2 | Abstract follows the list for abstracts
3a | Clinical setting, reason for the model, earlier models
3b | Who the model is for: patients, place in care, users
3c | Known inequalities in health between groups
4 | Aims, and whether development, evaluation or both | ~aim
5a | Where the data come from, why these, how representative
5b | Dates of the data
6a | Setting, number and place of centres | ~centres
6b | Who could take part | ~exclusion
6c | Treatments that were given | ~covariates
7 | Preparation and checks of the data, alike in all groups | ~preparation
8a | Outcome: definition, when and how assessed | ~outcome
8b | Who assessed a subjective outcome
8c | Blinding of the outcome's assessment
9a | How candidate predictors were chosen | ~candidates
9b | Predictors: definition, when and how measured | ~features
9c | Who measured subjective predictors | ~raters
10 | How the size of the study came about
11 | Missing data: handling and reasons | ~missing
12a | How the data were used and divided | splits
12b | How predictors were handled | ~candidates
12c | Model, its building, tuning and internal validation | model
12d | Differences between clusters such as centres | ~heterogeneity
12e | Measures of performance and how models are compared | measures
12f | Updating of the model after evaluation
12g | How predictions of the evaluation were calculated | ~predictions
13 | Unbalanced classes: what was done, and recalibration | ~imbalance
14 | Fairness between groups of people | ~fairness
15 | What the model puts out, and thresholds | output
16 | How training and evaluation data differ | ~external
17 | Ethics approval and consent
18a | Funding and its role
18b | Conflicts of interest
18c | Where the protocol is
18d | Registration
18e | Where the data are
18f | Where the code is | ~code
19 | Part of patients and the public
20a | Flow of participants | flow
20b | Characteristics of participants, by centre | ~labels
20c | Characteristics of development against evaluation data
21 | Numbers of participants and of events in each analysis | numbers
22 | The model in full, so that others can use it | ~stored
23a | Performance with intervals, also in key groups | performance
23b | Performance by cluster | ~heterogeneity
24 | Results of updating
25 | Interpretation, fairness included
26 | Limits, biases and what follows from them | ~limits
27a | What is done with poor or missing input | ~unusual
27b | What users have to do, and which skill it takes
27c | Next steps, applicability elsewhere
"""
_CLEAR_ITEMS = """
1 | Title says radiomics
2 | Structured abstract
3 | Keywords
4 | Clinical background
5 | Reason for radiomics here
6 | Aim
7 | Guidelines that were followed | ~lists
8 | Ethics
9 | How the size of the study came about
10 | Prospective or retrospective
11 | Who could take part | ~exclusion
12 | Flow of the technical steps
13 | Source of the data
14 | Overlap with earlier publications
15 | How data were divided | splits
16 | Protocol of imaging
17 | Predictors that are not radiomic | ~covariates
18 | Reference standard | ~outcome
19 | How lesions were outlined
20 | Who outlined them | ~raters
21 | Preprocessing of images | ~settings
22 | Resampling | ~settings
23 | Discretisation | ~settings
24 | Image types | ~images
25 | Method and software of extraction | software
26 | Feature families | ~families
27 | Number of features | features
28 | Settings, or that they are the default | ~settings
29 | Missing data | ~missing
30 | Balance of classes | ~imbalance
31 | Reliability of outlines | ~robustness
32 | Scaling and harmonisation of features | ~scaling
33 | Reduction of dimension | ~selection
34 | Algorithm and software | model
35 | Training and tuning | ~tuning
36 | Confounders | ~strata
37 | How the final model was chosen | ~tuning
38 | Internal or external test | testing
39 | Measures and why these | measures
40 | Uncertainty | uncertainty
41 | Statistical comparison of performance | comparison
42 | Comparison with models without radiomics | comparison
43 | Interpretability | ~selected
44 | Baseline characteristics | ~labels
45 | Flow of participants | flow
46 | Statistics of features: reliability, selection | ~selected
47 | Performance in training, validation and test | ~performance
48 | Results beside models without radiomics | comparison
49 | Main findings
50 | Earlier work
51 | Meaning for practice
52 | Strengths and limits | ~limits
53 | Images and outlines shared
54 | Features shared
55 | Preprocessing scripts or settings shared | ~settings
56 | Code of the modelling shared | ~code
57 | Final model shared
58 | A system that is ready to use
"""
_METRICS_ITEMS = """
1 | A checklist for radiomics or machine learning is followed | ~lists
2 | Eligibility gives a representative population | ~exclusion
3 | Reference standard is good and defined
4 | More than one centre | centres
5 | Source of images fits the clinic
6 | Protocol of imaging
7 | Time between imaging and reference standard
8 | Method of outlining is told
9 | Automatic outlining was evaluated
10 | Test outlines by one reader or one tool | ~raters
11 | Preprocessing fits and is told | ~settings
12 | Standardised software of extraction | software
13 | Parameters of extraction are told | ~settings
14 | Features that are not robust are removed
15 | Redundant features are removed | ~selection
16 | Number of features fits the number of lesions | ~dimension
17 | Robustness of end-to-end deep learning
18 | Division of data without leakage | splits
19 | Confounders are handled | ~strata
20 | Measures fit the task | measures
21 | Uncertainty is told | uncertainty
22 | Calibration is assessed | calibration
23 | One imaging parameter, or proof that it is not enough
24 | Comparison with an approach without radiomics | comparison
25 | Comparison with simple models | comparison
26 | Internal test | internal
27 | External test | external
28 | Data are available
29 | Code is available | ~code
30 | Model is available
"""
