"""The page as a person meets it: click paths, keyboard alone, a phone, both colour schemes, and an accessibility check.

Screenshots of each view go to the folder that RECO_TEST_SCREENSHOTS names, if it names one.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.shots import species_shot
from demo.species import species_of

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

FIRST_PAINT_MS = 1000
LIMIT_BYTES = 150_000
WIDTHS = [1280, 390]
# An outline on the element, or on the one that stands for an input that lies unseen over it.
FOCUS_IS_SEEN = """() => {
    const here = document.activeElement;
    const shown = here.closest(".drop, .filebutton") ?? (here.matches(".modes input") ? here.nextElementSibling : here);
    return getComputedStyle(shown).outlineStyle !== "none" || here === document.body;
}"""
SCREENSHOTS = os.environ.get("RECO_TEST_SCREENSHOTS")


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait for something to be true; playwright's own way needs eval, which the page's policy forbids."""
    end = time.monotonic() + 60
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, f"never came true: {expression}"
        page.wait_for_timeout(50)


def answered(page: Any) -> None:
    """Wait until the answer is there and whole."""
    page.wait_for_selector("#answer[aria-busy=false]")
    page.wait_for_selector("#details .times")


def violations(page: Any) -> list[str]:
    """What axe finds, with the elements it means."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]


def photo(photo_bytes: dict[str, bytes]) -> dict[str, Any]:
    """A file to choose."""
    return {"name": "b.jpg", "mimeType": "image/jpeg", "buffer": photo_bytes["jpeg"]}


def keep(page: Any, name: str) -> None:
    """A screenshot for people to look at."""
    if SCREENSHOTS:
        page.evaluate("document.querySelectorAll('img').forEach((one) => { one.loading = 'eager'; })")
        page.wait_for_load_state("networkidle")
        Path(SCREENSHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(SCREENSHOTS) / f"{name}.png", full_page=True)


def test_a_sample_shows_what_the_memory_is_worth(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)  # the first sample is asked about without a click
    [sample, *_] = httpx.get(f"{site}/samples").json()["samples"]
    files = {"files": httpx.get(f"{site}/samples/{sample['name']}").content}
    asked = {name: json.dumps(sample[name]) for name in ("labels", "templates")} | {"compare": "true"}
    [item] = httpx.post(f"{site}/classify", files=files, data=asked, timeout=60).json()["data"]
    for card, scores in zip(page.locator(".card").all(), (item["original"], item), strict=True):
        assert card.locator(".pick").inner_text() == scores["label"]
        assert ("right" if scores["label"] == sample["answer"] else "wrong") in card.inner_text()
    assert page.locator("section[aria-labelledby=known-title] li.named").count() > 0
    assert page.locator("section[aria-labelledby=near-title] li").count() == 5
    loaded = "images => images.every(image => image.naturalWidth > 0)"
    page.locator("section[aria-labelledby=known-title] img").last.scroll_into_view_if_needed()
    until(page, f"({loaded})([...document.querySelectorAll('section[aria-labelledby=known-title] img')])")
    words = page.locator("#details").inner_text()
    assert "counts" in words or "not trusted" in words
    assert "the angle went from" in words
    assert "in all" in words
    page.locator("#samples button").nth(1).click()
    until(page, "document.querySelectorAll('#samples button')[1].getAttribute('aria-pressed') === 'true'")
    answered(page)
    assert page.locator("#file-name").inner_text().endswith(".png")


def test_a_picture_and_labels_of_ones_own(site: str, open_page: Any, photo_bytes: dict[str, bytes]) -> None:
    page = open_page(site)
    answered(page)
    page.locator("#labels").fill("a puffin\n\n  <img src=x onerror=alert(1)>  \nrazorbill")
    given = {"name": "my 'bird'.jpg", "mimeType": "image/jpeg", "buffer": photo_bytes["jpeg"]}
    page.locator("#file").set_input_files(given)
    until(page, "document.querySelectorAll('.bars li').length === 3")
    answered(page)
    assert "<img src=x onerror=alert(1)>" in page.locator(".bars").first.inner_text()
    assert page.locator(".bars img").count() == 0
    page.locator(".curl summary").click()
    command = page.locator(".curl pre").inner_text()
    assert f"curl -s {site}/classify -F files=@my-bird-.jpg" in command
    assert "'compare=true'" in command or "compare=true" in command


def test_paste_and_drop(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    for kind in ("paste", "drop"):
        page.evaluate(
            """async (kind) => {
                const canvas = Object.assign(document.createElement("canvas"), { width: 64, height: 64 });
                canvas.getContext("2d").fillRect(8, 8, 40, 40);
                const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
                const data = new DataTransfer();
                data.items.add(new File([blob], `${kind}.png`, { type: "image/png" }));
                const options = { bubbles: true, cancelable: true };
                document.dispatchEvent(kind === "paste"
                    ? new ClipboardEvent("paste", { ...options, clipboardData: data })
                    : new DragEvent("drop", { ...options, dataTransfer: data }));
            }""",
            kind,
        )
        until(page, f"document.getElementById('file-name').textContent === '{kind}.png'")
        answered(page)


def test_a_text_finds_its_neighbours(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    page.get_by_role("radio", name="Text").check()
    page.get_by_label("Text", exact=True).last.fill("a photo of a bird")
    page.locator("#k").fill("3")
    page.get_by_role("button", name="Find").click()
    page.wait_for_selector("#details .times")
    assert page.locator("#details .gallery li").count() == 3
    assert "Nearest caption" in page.locator("#verdict").inner_text()


def test_errors_are_sentences(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    page.locator("#labels").fill("puffin\nPuffin")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("#try-error:not([hidden])")
    assert page.locator("#try-error p").first.inner_text() == (
        "Label 2 (“Puffin”): Two labels are the same but for case, spaces or Unicode form."
    )
    assert page.locator("#try-error a").get_attribute("href") == "/docs#labels_duplicate"
    page.locator("#labels").fill("puffin")
    broken = {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture at all"}
    page.locator("#file").set_input_files(broken)
    until(page, "document.getElementById('try-error').textContent.includes('Not a JPEG')")


def test_the_memory_is_shown_and_searched(site: str, open_page: Any, photo_bytes: dict[str, bytes]) -> None:
    page = open_page(site)
    answered(page)
    page.get_by_role("link", name="Memory").click()
    until(page, "document.title === 'Memory · RECO'")  # the view changes after the click returns
    assert page.evaluate("document.activeElement.id") == "memory-title"
    page.wait_for_selector("#sample li")
    assert "96" in page.locator("#memory-facts").inner_text()
    shown = page.locator("#sample").inner_text()
    page.get_by_role("button", name="Another sample").click()
    until(page, "old => document.getElementById('sample').innerText !== old", shown)
    page.locator("#search-text").fill("a bird")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li")
    assert "nearest items to “a bird”" in page.locator("#search-status").inner_text()
    page.locator("#search-file").set_input_files(photo(photo_bytes))
    until(page, "document.getElementById('search-status').textContent.includes('b.jpg')")
    page.go_back()
    until(page, "document.title === 'Try · RECO'")


def test_numbers_are_rounded_as_python_rounds_them(site: str, open_page: Any) -> None:
    values = [6.25, 6.75, -6.25, 0.25, 12.5, 6.35, 2.0, 99.95, 1.25, -0.75]
    page = open_page(site)
    shown = page.evaluate(
        "values => import(document.querySelector('script[type=module]').src.replace('main.js', 'dom.js'))"
        ".then(({ tenths }) => values.map(tenths))",
        values,
    )
    assert shown == [f"{value:.1f}" for value in values]


def test_one_label_is_told_to_be_no_choice(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    page.locator("#labels").fill("puffin")
    page.get_by_role("button", name="Compare").click()
    until(page, "document.getElementById('verdict').textContent.includes('give two or more')")


def test_the_evaluation_is_shown(site: str, open_page: Any) -> None:
    page = open_page(f"{site}/#evaluation")
    page.wait_for_selector("#evaluation-task table")
    figures = httpx.get(f"{site}/evaluation").json()["tasks"][0]["measures"]["zero_shot"]["top-1"]
    cards = page.locator("#evaluation-task .card .pick").all_inner_texts()
    assert cards == [f"{figures[scoring]['mean']:.1f}" for scoring in ("none", "both")]
    assert page.locator("#evaluation-task tbody tr").count() == 5
    assert page.locator("#evaluation-task svg[role=img]").count() == 2
    assert "CLIP alone from" in page.locator("#evaluation-task svg").first.get_attribute("aria-label")
    page.get_by_role("link", name="Look at single pictures").click()
    page.wait_for_url("**/evaluation/gallery")
    assert "Drawn at random" in page.locator("body").inner_text()


def test_without_an_evaluation_the_page_says_how_to_make_one(site_without_fusion: str, open_page: Any) -> None:
    page = open_page(f"{site_without_fusion}/#evaluation")
    until(page, "document.getElementById('evaluation-body').textContent.includes('reco eval')")
    assert "nothing to evaluate" in page.locator("#evaluation-body .notice").inner_text()


def test_a_name_that_nobody_has_heard_is_added_and_known(growing_site: str, open_page: Any, operator_key: str) -> None:
    page = open_page(growing_site)
    answered(page)
    page.get_by_role("link", name="Memory").click()
    page.get_by_text("Add your own").click()
    stranger = species_of("unseen")[40]
    pictures = [
        {"name": f"{number}.png", "mimeType": "image/png", "buffer": species_shot(stranger, "page", number).png()}
        for number in range(4)
    ]
    page.wait_for_selector("#add", state="visible")
    page.locator("#add-name").fill("Zquorb the Wob")
    page.locator("#add-files").set_input_files(pictures[:3])
    page.locator("#add-key").fill("reco_not-a-key")
    page.get_by_role("button", name="Add to the memory").click()
    until(page, "document.getElementById('add-error').textContent.includes('no key of this service')")
    page.locator("#add-key").fill(operator_key)
    cut = pictures[3] | {"name": "cut.png", "buffer": pictures[3]["buffer"][:99]}
    page.locator("#add-files").set_input_files([*pictures[:2], cut])
    page.get_by_role("button", name="Add to the memory").click()
    until(page, "document.getElementById('add-error').textContent.startsWith('cut.png: ')")
    page.locator("#add-files").set_input_files(pictures[:3])
    page.get_by_role("button", name="Add to the memory").click()
    until(page, "document.getElementById('add-status').textContent.includes('3 pictures of “Zquorb the Wob” added')")
    until(page, "document.getElementById('memory-facts').textContent.includes('99')")
    page.get_by_role("button", name="Ask about the first one").click()
    near = "document.querySelector('section[aria-labelledby=near-title] .gallery')?.innerText ?? ''"
    until(page, f"({near}).startsWith('a photo of a Zquorb the Wob')")
    assert page.locator("#labels").input_value().startswith("Zquorb the Wob\n")
    page.locator("#file").set_input_files(pictures[3])  # one that the memory does not hold
    until(page, "document.getElementById('file-name').textContent === '3.png'")
    answered(page)
    assert "Zquorb the Wob" in page.evaluate(near)


def test_a_service_with_keys_asks_for_one(closed_site: str, open_page: Any, operator_key: str) -> None:
    page = open_page(closed_site)
    page.wait_for_selector("#key-form", state="visible")
    assert violations(page) == []
    page.locator("#key").fill(operator_key)
    page.keyboard.press("Enter")
    answered(page)
    page.get_by_role("link", name="Memory").click()
    until(page, "[...document.querySelectorAll('#sample img')].some((one) => one.naturalWidth > 0)")
    page.get_by_text("Add your own").click()
    page.wait_for_selector("#add-closed", state="visible")


def test_the_keyboard_is_enough(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    press = page.keyboard.press
    focused = "document.activeElement.id || document.activeElement.textContent.trim()"

    def tab_to(wanted: str) -> None:
        for _ in range(40):
            press("Tab")
            assert page.evaluate(FOCUS_IS_SEEN), page.evaluate(focused)
            if page.evaluate(focused) == wanted:
                return
        raise AssertionError(f"no way to {wanted} with the tabulator")

    press("Tab")
    assert page.evaluate(focused) == "skip"
    press("Enter")
    assert page.evaluate(focused) == "main"
    press("Tab")  # the modes
    press("ArrowRight")
    assert page.locator("#text-fields").is_visible()
    tab_to("text")
    page.keyboard.type("a bird in flight")
    press("Control+Enter")
    page.wait_for_selector("#details .gallery li")
    page.evaluate("document.querySelector('.brand').focus()")
    tab_to("Memory")
    press("Enter")
    page.wait_for_selector("#memory-title", state="visible")
    tab_to("search-text")
    page.keyboard.type("a bird")
    press("Enter")
    page.wait_for_selector("#search-results li")


def test_without_a_fusion_the_page_says_so(
    site_without_fusion: str, open_page: Any, photo_bytes: dict[str, bytes]
) -> None:
    page = open_page(site_without_fusion)
    page.wait_for_selector("#service-state", state="hidden")
    assert page.locator("#samples").is_hidden()
    page.get_by_role("button", name="Compare").click()
    until(page, "document.getElementById('try-error').textContent.includes('Choose a picture first')")
    page.locator("#labels").fill("a\nb")
    page.locator("#file").set_input_files(photo(photo_bytes))
    answered(page)
    assert page.locator(".card").count() == 1
    assert "no fusion checkpoint" in page.locator("#verdict").inner_text()
    page.goto(f"{site_without_fusion}/#memory")
    page.wait_for_selector("#sample li")
    assert "none" in page.locator("#memory-facts").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_each_view_is_accessible_and_fits(site: str, open_page: Any, width: int, scheme: str) -> None:
    page = open_page(site, width=width, height=844, scheme=scheme)
    answered(page)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"try-{width}-{scheme}")
    page.get_by_role("link", name="Memory").click()
    page.locator("#search-text").fill("a bird")
    page.keyboard.press("Enter")
    page.wait_for_selector("#search-results li")
    page.wait_for_selector("#sample li")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"memory-{width}-{scheme}")
    page.get_by_role("link", name="Evaluation").click()
    page.wait_for_selector("#evaluation-task table")
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    keep(page, f"evaluation-{width}-{scheme}")


def test_it_is_small_and_painted_at_once(site: str, open_page: Any) -> None:
    paints = []
    for _ in range(3):
        page = open_page(site)
        until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
        sizes = page.evaluate(
            "performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/'))"
            ".reduce((sum, one) => sum + one.transferSize, performance.getEntriesByType('navigation')[0].transferSize)"
        )
        assert sizes <= LIMIT_BYTES
    assert min(paints) <= FIRST_PAINT_MS, paints


def test_nothing_jumps_while_it_loads(site: str, open_page: Any) -> None:
    page = open_page(site)
    answered(page)
    shift = page.evaluate(
        """() => new Promise((resolve) => {
            let sum = 0;
            const add = (one) => { sum += one.hadRecentInput ? 0 : one.value; };
            const observer = new PerformanceObserver((list) => list.getEntries().forEach(add));
            observer.observe({ type: "layout-shift", buffered: true });
            setTimeout(() => resolve(sum), 300);
        })"""
    )
    assert shift < 0.1
