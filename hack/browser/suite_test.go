package browser

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// set gives a field of a form a value, as a user does.
func (p *page) set(form, name, value string) {
	p.Helper()
	ask[int](p, fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.value = %q; if (e.value !== %q) throw new Error("no value " + %q); e.dispatchEvent(new Event("input", { bubbles: true })); return 0; })()`,
		"#"+form+" "+name, value, value, value))
}

const (
	shownCells   = `document.querySelectorAll("details.cell:not([hidden])").length`
	shownSquares = `document.querySelectorAll(".grid a.q:not([hidden])").length`
)

func TestFilters(t *testing.T) {
	p := open(t, one(t, "suites.html"), look{width: 1280})
	whole := ask[int](p, `document.querySelectorAll("details.cell").length`)
	newest := ask[int](p, `document.querySelectorAll('details.cell:not([data-k^="-"])').length`)
	for _, c := range []struct{ name, value, want string }{
		{`[name="family"]`, "tuple", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[name="class"]`, "l", `document.querySelectorAll('[data-family="tuple"] details.cell[data-k^="l"]').length`},
		{`[name="class"]`, "", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[name="words"]`, "rfc1337=1 CLOCK=older", `[...document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])')].filter(e => / clock=older /.test(e.textContent) && / rfc1337=1 /.test(e.textContent)).length`},
		{`[name="words"]`, "", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[data-axis="clock"]`, "older", `[...document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])')].filter(e => / clock=older /.test(e.textContent)).length`},
		{`[data-axis="rfc1337"]`, "1", `[...document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])')].filter(e => / clock=older /.test(e.textContent) && / rfc1337=1 /.test(e.textContent)).length`},
		{`[data-axis="clock"]`, "", `[...document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])')].filter(e => / rfc1337=1 /.test(e.textContent)).length`},
		{`[data-axis="rfc1337"]`, "", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[name="rule"]`, "tuple-newer-number", `document.querySelectorAll('[data-rule="tuple-newer-number"] details.cell:not([data-k^="-"])').length`},
		{`[name="rule"]`, "", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[name="class"]`, "=", `document.querySelectorAll('[data-family="tuple"] details.cell[data-differs]:not([data-k^="-"])').length`},
		{`[name="class"]`, "", `document.querySelectorAll('[data-family="tuple"] details.cell:not([data-k^="-"])').length`},
		{`[name="kernel"]`, "1", `[...document.querySelectorAll('[data-family="tuple"] details.cell')].filter(e => e.dataset.k[1] !== "-").length`},
	} {
		p.set("filter", c.name, c.value)
		want, cells, squares := ask[int](p, c.want), ask[int](p, shownCells), ask[int](p, shownSquares)
		if cells != want || squares != want || want == 0 || want == whole {
			t.Errorf("%s=%s: %d cells and %d squares of %d, want %d", c.name, c.value, cells, squares, whole, want)
		}
		if says := ask[string](p, `document.getElementById("shown").textContent`); says != fmt.Sprintf("%d of %d cells", want, whole) {
			t.Errorf("%s=%s says %q", c.name, c.value, says)
		}
	}
	p.do(chromedp.Click(`#filter button`), chromedp.Sleep(200*time.Millisecond))
	if cells := ask[int](p, shownCells); cells != newest {
		t.Errorf("after the reset %d cells of %d", cells, newest)
	}
	if axes := ask[int](p, `document.querySelectorAll("#axes select").length`); axes != 0 {
		t.Errorf("after the reset, %d axes of no family", axes)
	}
}

func TestPacketsOfACell(t *testing.T) {
	p := open(t, one(t, "suite.html"), look{width: 390})
	size := ask[string](p, `(() => {
		const use = document.querySelector(".cell .drawing use");
		location.hash = use.closest(".cell").id;
		const box = use.getBoundingClientRect();
		return box.width > 100 && box.height > 100 ? "" : box.width + " by " + box.height;
	})()`)
	if size != "" {
		t.Errorf("the packets of a cell are drawn in %s pixels", size)
	}
	p.shoot("packets-of-a-cell")
}

func TestASquareLeadsToItsEvidence(t *testing.T) {
	p := open(t, one(t, "suite.html"), look{width: 1280})
	p.set("filter", `[name="family"]`, "tuple")
	p.do(chromedp.Click(`[data-family="tuple"] .grid a.q`), chromedp.Sleep(200*time.Millisecond))
	if seen := ask[bool](p, `(() => { const e = document.querySelector(location.hash); return e.open && e.closest(".rule").open && e.getBoundingClientRect().top < innerHeight && e.querySelectorAll("td").length > 2; })()`); !seen {
		t.Error("the evidence is not seen")
	}
	// The keyboard goes on by arrows.
	p.set("filter", `[name="family"]`, "")
	p.do(chromedp.Focus(`[data-family="gateway"] .grid a.q`), chromedp.KeyEvent(kb.ArrowRight))
	if at := ask[int](p, `[...document.querySelectorAll('[data-family="gateway"] .grid a.q')].indexOf(document.activeElement)`); at != 1 {
		t.Errorf("after one arrow the focus is on square %d", at)
	}
}

func TestIsMySettingSafe(t *testing.T) {
	p := open(t, one(t, "suites.html"), look{width: 1280})
	says := func() string { return ask[string](p, `document.getElementById("picked").textContent`) }
	p.set("pick", `[name="way"]`, "nat")
	p.set("pick", `[data-knob="client-tcp-tw-reuse"]`, "1")
	p.set("pick", `[data-knob="balancer-tcp-timestamps"]`, "0")
	if text := says(); !strings.Contains(text, "tcp_tw_reuse=1: no difference seen.") || !strings.Contains(text, "cells that apply: does not get in") {
		t.Errorf("tw_reuse=1 behind NAT, balancer without timestamps: %s", text)
	}
	p.shoot("safe")
	p.set("pick", `[data-knob="client-tcp-tw-reuse"]`, "")
	p.set("pick", `[data-knob="balancer-tcp-timestamps"]`, "")
	p.set("pick", `[data-knob="balancer-tcp-rfc1337"]`, "1")
	if text := says(); !strings.Contains(text, "tcp_rfc1337=1: harms.") {
		t.Errorf("rfc1337=1: %s", text)
	}
	p.set("pick", `[name="client"]`, "1")
	if text := says(); !strings.Contains(text, "No run had these two kernels together") || !strings.Contains(text, "tcp_rfc1337=1: harms.") {
		t.Errorf("two kernels: %s", text)
	}
}

func TestWithoutAScript(t *testing.T) {
	for _, path := range all(t) {
		if !strings.HasPrefix(filepath.Base(path), "suite") {
			continue
		}
		p := open(t, path, look{width: 1280, noScript: true})
		if shown := ask[int](p, `[...document.querySelectorAll(".filters")].filter(e => e.getClientRects().length).length`); shown > 0 {
			t.Errorf("%s: %d filters are shown that do nothing", filepath.Base(path), shown)
		}
		if rows := ask[int](p, `document.querySelectorAll("#effects tbody tr, .combos tbody tr, .claims tbody tr").length`); rows < 50 {
			t.Errorf("%s: only %d rows", filepath.Base(path), rows)
		}
		// A link into something folded opens it.
		p.do(chromedp.Click(`#effects td.n a`), chromedp.Sleep(200*time.Millisecond))
		if seen := ask[bool](p, `(() => { const e = document.querySelector(":target"); return e.closest(".rule").open && e.getBoundingClientRect().top < innerHeight; })()`); !seen {
			t.Errorf("%s: the cell of a link is not seen", filepath.Base(path))
		}
	}
}

// The goal is a second until a page reacts. It is the processor time of the page's main thread that is
// held against it, which other work on the machine does not change; the time by the clock is told.
func TestReactsWithinASecond(t *testing.T) {
	const most = 1.0 // seconds
	for _, path := range all(t) {
		if !strings.HasPrefix(filepath.Base(path), "suite") && !strings.Contains(*also, filepath.Base(path)) {
			continue
		}
		p := open(t, path, look{width: 1280})
		// The script has run; now the page is laid out.
		ready := ask[float64](p, `(() => { document.body.getBoundingClientRect(); return performance.now(); })()`)
		used := p.used()
		filtered := 0.0
		if ask[bool](p, `document.getElementById("filter") !== null`) {
			ask[int](p, `(() => { const e = document.querySelector('#filter [name="words"]'); e.value = "ip=4"; e.dispatchEvent(new Event("input", { bubbles: true })); document.body.getBoundingClientRect(); return 0; })()`)
			filtered = p.used() - used
		}
		t.Logf("%s: ready after %.0f ms of processor time, %.0f ms by the clock; a filter takes %.0f ms of processor time", filepath.Base(path), used*1000, ready, filtered*1000)
		if used > most || filtered > most {
			t.Errorf("%s: %.2f s of processor time until it is ready, %.2f s for a filter; want at most %.0f s", filepath.Base(path), used, filtered, most)
		}
	}
}

// used is the processor time of the page's main thread since it began, in seconds.
func (p *page) used() float64 {
	p.Helper()
	metrics, err := chromedp.Call(p.ctx, performance.GetMetrics, cdp.Empty{})
	if err != nil {
		p.Fatal(err)
	}
	for _, m := range metrics.Metrics {
		if m.Name == "TaskDuration" {
			return m.Value
		}
	}
	p.Fatal("the browser does not say what a page has used")
	return 0
}
