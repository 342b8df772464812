"""Questions that the page suggests: those that fit any object, and one that fits the chosen one's class where that is known."""

from __future__ import annotations

QUESTIONS = ("What is this object?", "What is its main colour?", "Describe this object in detail.")

_OF_ANY = "Is it taller than it is wide?"
_OF_CLASS = {
    "airplane": "What colour are the wings?",
    "bench": "What colour is the seat?",
    "cabinet": "Is it taller than it is wide?",
    "car": "What colour are the wheels?",
    "chair": "Does the chair have armrests?",
    "display": "What colour is the screen?",
    "lamp": "Does the lamp stand or hang?",
    "phone": "What colour is the screen?",
    "rifle": "What colour is the stock?",
    "sofa": "How many seat cushions are there?",
    "speaker": "What colour is the case?",
    "table": "What does the table stand on?",
    "watercraft": "What colour is the hull?",
}


def fitting_question(class_name: str) -> str:
    """A question that fits objects of a class; one that fits any where the class is not known ("")."""
    return _OF_CLASS.get(class_name, _OF_ANY)
