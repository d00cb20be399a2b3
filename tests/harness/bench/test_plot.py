"""The plot of deliveries per second against the number of clients."""

import xml.etree.ElementTree as ET

from harness.bench.plot import APART, plot, spaced
from harness.bench.trial import FAILED, MEASURED, Result

SVG = "{http://www.w3.org/2000/svg}"


def measured(
    server: str, clients: int, rate: float, repetition: int = 0, kind: str = "crowd"
) -> Result:
    return Result(f"{kind} {clients}", server, repetition, MEASURED, figures={"rate": rate})


def test_each_server_has_a_line_a_band_and_its_name() -> None:
    results = [
        measured("fast & good", clients, clients * 1000.0 * (1 + repetition), repetition)
        for clients in (10, 100, 900)
        for repetition in range(3)
    ]
    results += [measured("slow", clients, 500.0) for clients in (10, 100)]
    results += [Result("crowd 10", "broken", 0, FAILED), Result("idle 9", "slow", 0, MEASURED)]
    picture = ET.fromstring(plot(results))
    lines = [element.attrib["points"].split() for element in picture.iter(f"{SVG}polyline")]
    assert [len(points) for points in lines] == [3, 2]
    assert len([*picture.iter(f"{SVG}polygon")]) == 2
    texts = [element.text for element in picture.iter(f"{SVG}text")]
    assert "fast & good" in texts
    assert "slow" in texts
    assert "broken" not in texts
    assert {"10", "100", "900"} <= {*texts}
    left, right = (float(points.split(",")[0]) for points in (lines[0][0], lines[0][-1]))
    assert left < right
    low, high = (float(points.split(",")[1]) for points in (lines[0][0], lines[0][-1]))
    assert high < low, "a higher rate is drawn higher up"


def test_crowd_and_solo_have_a_panel_each_with_the_same_colours() -> None:
    results = [
        measured("ours", 10, 500.0),
        measured("theirs", 10, 900.0),
        measured("theirs", 2, 20.0, kind="solo"),
        measured("ours", 10, 90.0, kind="solo"),
    ]
    picture = ET.fromstring(plot(results))
    crowds, solos = (
        {
            server.findtext(f"{SVG}text"): line.attrib["stroke"]
            for server in panel.findall(f"{SVG}g")
            for line in server.findall(f"{SVG}polyline")
        }
        for panel in picture.findall(f"{SVG}g")
    )
    assert crowds == solos
    assert len({*crowds.values()}) == 2
    _, _, width, height = map(int, picture.attrib["viewBox"].split())
    assert [panel.attrib["transform"] for panel in picture.findall(f"{SVG}g")] == [
        *("translate(0 0)", f"translate(0 {height // 2})")
    ]
    alone = ET.fromstring(plot(results[2:]))
    assert alone.attrib["viewBox"] == f"0 0 {width} {height // 2}"
    titles = [text.text for text in alone.iter(f"{SVG}text") if text.get("class") == "title"]
    assert titles == ["Deliveries per second, when one client sends"]


def test_names_of_servers_do_not_overlap() -> None:
    places = spaced({"a": 100, "b": 101, "c": 300, "d": 102})
    assert places == {"a": 100, "b": 100 + APART, "d": 100 + 2 * APART, "c": 300}


def test_a_plot_without_results_is_an_image() -> None:
    assert ET.fromstring(plot([])).tag == f"{SVG}svg"
