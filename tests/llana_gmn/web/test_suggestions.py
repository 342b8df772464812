"""What the page suggests to ask."""

from gmn_encoder.objects import CLASS_NAMES
from llana_gmn.web.suggestions import _OF_CLASS, QUESTIONS, fitting_question


def test_each_class_has_a_question_and_what_is_unknown_one_that_fits_any():
    assert set(_OF_CLASS) == set(CLASS_NAMES)
    assert fitting_question("chair") == "Does the chair have armrests?"
    assert fitting_question("") == fitting_question("teapot") == "Is it taller than it is wide?"
    assert all(text.endswith(("?", ".")) for text in (*QUESTIONS, *_OF_CLASS.values()))
