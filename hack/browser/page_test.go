package browser

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func TestNoPageScrollsSideways(t *testing.T) {
	for _, path := range all(t) {
		for _, width := range widths {
			p := open(t, path, look{width: width})
			name := strings.TrimSuffix(filepath.Base(path), ".html")
			if strings.HasPrefix(name, "scenario0") { // larger pages are too large for a picture
				p.shoot(fmt.Sprintf("%s-%d", name, width))
			}
			for _, opened := range []bool{false, true} {
				if opened {
					ask[int](p, `[...document.querySelectorAll("details")].map(d => d.open = true).length`)
				}
				if wide := ask[int64](p, `document.documentElement.scrollWidth`); wide > width {
					who := ask[[]string](p, `[...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .drawing, pre")).slice(0, 5).map(e => e.outerHTML.slice(0, 120))`)
					t.Errorf("%s at %d, folded open: %t: %d wide; %s", filepath.Base(path), width, opened, wide, strings.Join(who, "\n"))
				}
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for _, path := range all(t) {
		p := open(t, path, look{width: 1280})
		if lost := ask[[]string](p, `[...document.links].map(a => a.getAttribute("href")).concat([...document.querySelectorAll("svg a")].map(a => a.getAttribute("href"))).filter(h => !h.startsWith("#") || !document.getElementById(h.slice(1)))`); len(lost) > 0 {
			t.Errorf("%s: links to %v", filepath.Base(path), lost)
		}
	}
}

func TestAsManyArrowsAsPackets(t *testing.T) {
	for _, path := range all(t) {
		if !strings.HasPrefix(filepath.Base(path), "scenario") {
			continue
		}
		p := open(t, path, look{width: 1280})
		for _, a := range ask[[]struct {
			Name                  string
			Lives, Arrows, Folded int
		}](p, `[...document.querySelectorAll("article")].map(a => ({ name: a.querySelector("h1").textContent, lives: Number(a.dataset.lives), arrows: a.querySelectorAll("svg a.arrow").length, folded: [...a.querySelectorAll("[data-folded]")].reduce((n, e) => n + Number(e.dataset.folded), 0) }))`) {
			if a.Lives != a.Arrows+a.Folded {
				t.Errorf("%s: %+v", filepath.Base(path), a)
			}
		}
	}
}

func TestAnArrowLeadsToItsPacket(t *testing.T) {
	p := open(t, one(t, "scenarios.html"), look{width: 1280})
	ask[int](p, `[...document.querySelectorAll("details.article")].slice(0, 1).map(d => d.open = true).length`)
	href := ask[string](p, `document.querySelector("svg a.arrow").getAttribute("href")`)
	p.do(chromedp.Focus(`svg a.arrow`), chromedp.KeyEvent(kb.Enter), chromedp.Sleep(200*time.Millisecond))
	if opened := ask[bool](p, fmt.Sprintf(`document.querySelector(%q).open && document.querySelector(%q).getBoundingClientRect().top < innerHeight`, href, href)); !opened {
		t.Errorf("%s is not open, or not in view", href)
	}
}

// fold is how many pixels of a page are seen at first on a small telephone, with some to spare.
const fold = 450

// A first look must say who ended the SYN: it is above the fold, on a telephone too.
func TestTheAnswerIsSeenAtOnce(t *testing.T) {
	for _, path := range all(t) {
		name := filepath.Base(path)
		if !strings.HasPrefix(name, "scenario") || name == "scenarios.html" {
			continue
		}
		for _, width := range widths {
			p := open(t, path, look{width: width})
			if bottom := ask[float64](p, `document.querySelector(".answer .who").getBoundingClientRect().bottom`); bottom > fold {
				t.Errorf("%s at %d: the answer ends at %.0f", name, width, bottom)
			}
		}
	}
}

func TestLandmarksAndNames(t *testing.T) {
	for _, path := range all(t) {
		p := open(t, path, look{width: 1280})
		if wrong := ask[[]string](p, `[
			...["main", "body > header", "body > footer"].filter(s => document.querySelectorAll(s).length !== 1),
			...[...document.querySelectorAll("nav, section")].filter(e => !e.getAttribute("aria-label")).map(e => e.outerHTML.slice(0, 80)),
			...[...document.querySelectorAll("select, input")].filter(e => !e.labels.length).map(e => e.outerHTML.slice(0, 80)),
			...[...document.querySelectorAll("svg:not([aria-hidden=true])")].filter(e => !e.closest("[aria-label]")).map(e => "svg without a name"),
			...[...document.querySelectorAll("h1")].length ? [] : ["no h1"],
			...(document.documentElement.lang === "en" ? [] : ["no lang"])]`); len(wrong) > 0 {
			t.Errorf("%s: %v", filepath.Base(path), wrong)
		}
		p.do(chromedp.KeyEvent(kb.Tab))
		if first := ask[string](p, `document.activeElement.getAttribute("href")`); first != "#main" {
			t.Errorf("%s: the first stop of the keyboard is %q", filepath.Base(path), first)
		}
	}
}

// contrast is the lowest ratio of contrast (WCAG 2.2) of all texts that are shown, with its text.
const contrast = `(() => {
	const parse = c => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
	let worst = { ratio: 99, text: "" };
	for (const e of document.querySelectorAll("body *")) {
		if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || ["SCRIPT", "STYLE", "OPTION"].includes(e.tagName) || !e.getClientRects().length) continue;
		const s = getComputedStyle(e), front = parse(e.closest("svg") ? s.fill : s.color);
		const [a, b] = [light(front), light(behind(e))].sort((x, y) => y - x), ratio = (a + .05) / (b + .05);
		if (ratio < worst.ratio) worst = { ratio, text: e.outerHTML.slice(0, 100) };
	}
	return worst;
})()`

func TestContrastInLightAndDark(t *testing.T) {
	for _, name := range []string{"scenarios.html", "suites.html"} {
		for _, dark := range []bool{false, true} {
			p := open(t, one(t, name), look{width: 1280, dark: dark})
			worst := ask[struct {
				Ratio float64
				Text  string
			}](p, contrast)
			if worst.Ratio < 4.5 {
				t.Errorf("%s, dark %t: contrast %.2f of %s", name, dark, worst.Ratio, worst.Text)
			}
			background := ask[string](p, `getComputedStyle(document.body).backgroundColor`)
			if dark == (background == "rgb(255, 255, 255)") {
				t.Errorf("%s, dark %t: the background is %s", name, dark, background)
			}
			p.shoot(fmt.Sprintf("%s-dark-%t", strings.TrimSuffix(name, ".html"), dark))
		}
	}
}

func TestPrinted(t *testing.T) {
	for _, name := range []string{"scenario00.html", "suite.html"} {
		p := open(t, one(t, name), look{width: 800, onPaper: true})
		if shown := ask[int](p, `[...document.querySelectorAll("nav, .filters")].filter(e => e.getClientRects().length).length`); shown > 0 {
			t.Errorf("%s: %d parts for the pointer are printed", name, shown)
		}
		ask[int](p, `(dispatchEvent(new Event("beforeprint")), 0)`)
		if closed := ask[int](p, `document.querySelectorAll("details.print:not([open])").length`); closed > 0 {
			t.Errorf("%s: %d folded parts are not printed", name, closed)
		}
		ask[int](p, `(dispatchEvent(new Event("afterprint")), 0)`)
	}
}
