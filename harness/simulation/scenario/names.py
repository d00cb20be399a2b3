"""The names of simulated people. Pure."""

from __future__ import annotations

FIRST = (
    *("Ann", "Bob", "Cleo", "Dan", "Eva", "Finn", "Gina", "Hugo", "Ida", "Jon", "Kim", "Leo"),
    *("Mia", "Ned", "Ola", "Pia", "Quinn", "Rosa", "Sam", "Tess", "Uma", "Vic", "Wanda", "Xenia"),
    *("Yves", "Zoe", "Amir", "Bea", "Carl", "Dora", "Emil", "Faye", "Gus", "Hana", "Ivan", "Jana"),
    *("Karl", "Lena", "Max", "Nora", "Otto", "Paul", "Rita", "Sven", "Tina", "Udo", "Vera", "Walt"),
)

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def name_of(person: int, visit: int) -> str:
    """Return the name of a person at a visit. person: number from 0. visit: number from 1.

    When all names in FIRST are used, further people are called AnnB, AnnC and so on. Ann2 is the
    name of Ann at her second visit. All names are different and consist of ASCII letters and
    digits, so that clients can use them to log in.
    """
    again, first = divmod(person, len(FIRST))
    more = ""
    while again:
        again, letter = divmod(again, len(LETTERS))
        more = LETTERS[letter] + more
    return FIRST[first] + more + (str(visit) if visit > 1 else "")
