package browser

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

var (
	shots = flag.String("screenshots", "", "`directory` that gets screenshots")
	also  = flag.String("also", "", "further `pages` to look at, of real runs, with a comma in between")
)

// The widths of a telephone and of a wide screen, in CSS pixels.
var widths = []int64{390, 1280}

// names of Chromium, as distributions have it.
var names = []string{"chromium-headless-shell", "chromium", "chromium-browser", "headless_shell", "google-chrome"}

// needsBrowser skips the test without a browser.
func needsBrowser(t *testing.T) {
	t.Helper()
	if found() == "" {
		t.Skip("no Chromium here to look at pages with; hack/bootstrap --with-browser installs one")
	}
}

// found is the path of a browser; empty without one.
func found() string {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// hack/test asks by this whether the others can run.
func TestABrowserIsHere(t *testing.T) { needsBrowser(t) }

// pages makes the pages of package page and of package results, once.
var pages = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "twlab-pages-")
	if err != nil {
		return "", err
	}
	ends = append(ends, func() { _ = os.RemoveAll(dir) }) // of a temporary directory
	// Without -args, go would take -pages for a flag of its own.
	c := exec.Command("go", "test", "./harness/page", "./scenarios/results", "-count=1", "-run=TestPagesForABrowser", "-args", "-pages="+dir)
	c.Dir = filepath.Join("..", "..")
	if said, err := c.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("make the pages: %w\n%s", err, said)
	}
	return dir, nil
})

// ends are what is to be done when all tests are over.
var ends []func()

// tabs is one browser for all tests, each of which has tabs of its own.
var tabs = sync.OnceValues(func() (context.Context, error) {
	path := found()
	flags := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), flags...)
	ends = append(ends, stop)
	ctx, stop = chromedp.NewContext(ctx)
	ends = append(ends, stop)
	return ctx, chromedp.Do(ctx)
})

func TestMain(m *testing.M) {
	flag.Parse()
	status := m.Run()
	for _, end := range slices.Backward(ends) {
		end()
	}
	os.Exit(status)
}

// page is a page in a tab of its own.
type page struct {
	*testing.T
	ctx      context.Context //nolint:containedctx // a tab is a context to chromedp
	mu       sync.Mutex
	requests []string
	messages []string
}

// look says how a page is looked at.
type look struct {
	width    int64
	dark     bool
	onPaper  bool
	noScript bool
}

// open opens a page, and fails the test at its end if the page has asked for anything or said
// anything.
func open(t *testing.T, path string, l look) *page {
	t.Helper()
	all, err := tabs()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := chromedp.NewContext(all)
	t.Cleanup(stop)
	p := &page{T: t, ctx: ctx}
	p.do() // a timeout of the first call would be one of the tab
	p.ctx, stop = context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(stop)
	if err := chromedp.Listen(p.ctx, p.hear); err != nil {
		t.Fatal(err)
	}
	media := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "light"}}}
	if l.dark {
		media.Features[0].Value = "dark"
	}
	if l.onPaper {
		media.Media = "print"
	}
	call(p, network.Enable, network.EnableParams{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, log.Enable, cdp.Empty{})
	call(p, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks})
	call(p, emulation.SetEmulatedMedia, media)
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: l.width, Height: 900, DeviceScaleFactor: 1, Mobile: l.width < 500})
	call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: l.noScript})
	p.do(chromedp.Navigate("file://" + path))
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.requests) != 1 || len(p.messages) > 0 {
			t.Errorf("%s: requests %v, messages %v; want one request and none", filepath.Base(path), p.requests, p.messages)
		}
	})
	return p
}

// hear notes what the page asks for, and what it says.
func (p *page) hear(event any) { //nolint:forbidigo // as chromedp has them
	p.mu.Lock()
	defer p.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, "data:") { // that is in the page already
			p.requests = append(p.requests, e.Request.URL)
		}
	case *runtime.EventConsoleAPICalled:
		p.messages = append(p.messages, "console: "+string(e.Type))
	case *runtime.EventExceptionThrown:
		p.messages = append(p.messages, "exception: "+e.ExceptionDetails.Text)
	case *cdppage.EventJavascriptDialogOpening:
		p.messages = append(p.messages, "dialog: "+e.Message)
	case *log.EventEntryAdded:
		p.messages = append(p.messages, "log: "+e.Entry.Text)
	}
}

// do does something, or fails the test.
func (p *page) do(actions ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	if err := chromedp.Do(p.ctx, actions...); err != nil {
		p.Fatal(err)
	}
}

// call sends a command to the browser, or fails the test.
func call[P, R any](p *page, command cdp.Command[P, R], params P) {
	p.Helper()
	if _, err := chromedp.Call(p.ctx, command, params); err != nil {
		p.Fatal(err)
	}
}

// ask is the value of an expression of JavaScript.
func ask[T any](p *page, expression string) (value T) {
	p.Helper()
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		p.Fatalf("%s: %v", expression, err)
	}
	return value
}

// all are the pages that there are to look at.
func all(t *testing.T) (paths []string) {
	t.Helper()
	needsBrowser(t)
	dir, err := pages()
	if err != nil {
		t.Fatal(err)
	}
	paths, err = filepath.Glob(filepath.Join(dir, "*.html"))
	if err != nil || len(paths) < 10 {
		t.Fatalf("%d pages, %v", len(paths), err)
	}
	for path := range strings.SplitSeq(*also, ",") {
		if path == "" {
			continue
		}
		if path, err = filepath.Abs(path); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// one is the page of that name.
func one(t *testing.T, name string) string {
	t.Helper()
	for _, path := range all(t) {
		if filepath.Base(path) == name {
			return path
		}
	}
	t.Fatalf("no page %s", name)
	return ""
}

// shoot keeps a screenshot of the whole page.
func (p *page) shoot(name string) {
	p.Helper()
	if *shots == "" {
		return
	}
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), picture, 0o644); err != nil {
		p.Fatal(err)
	}
}
