// Package e2e is the subcommand behind hack/e2e: it builds the suite, or takes the one that
// hack/build has left, and runs it inside a private sandbox.
package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	machines "twlab/harness/guest"

	"twlab/hack/cmd/twlab/guest"
	"twlab/hack/internal/cli"
	"twlab/hack/internal/kit"
)

// run is a request on its way.
type run struct {
	Request
	kit   kit.Kit
	out   output
	have  programs
	guest guest.Machine
	suite []string // flags of the suite's
	// How many specs are selected, and how many of them wait long.
	selected, slow int
	// How many bytes of memory processes can have; 0 is unknown.
	memory int
}

// Argv is how another process runs the suite: with the tree of the moment, where there is one.
func Argv(k kit.Kit) ([]string, error) {
	if k.Tree != "" && k.Built == "" {
		return []string{filepath.Join(k.Tree, "hack", "e2e")}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{self, "e2e"}, nil
}

// Run does what is asked for. It returns when nothing was run: otherwise this process becomes
// the run.
func Run(ctx context.Context, r Request) error {
	ctx, stop := cli.Interruptible(ctx)
	defer stop()
	err := begin(ctx, r)
	if ctx.Err() != nil {
		err = fmt.Errorf("interrupted: %w", context.Cause(ctx))
	}
	return cli.NotRunError(err)
}

func begin(ctx context.Context, request Request) (err error) {
	r := run{Request: request, suite: slices.Clone(request.Suite)}
	if r.kit, err = kit.Find(); err != nil {
		return err
	}
	if r.out, err = openOutput(cmp.Or(r.Output, DefaultOutput(r.kit))); err != nil {
		return err
	}
	if r.Cell != "" {
		// Another kernel predicts what that one does: only the file is of interest then.
		if err := r.inside(ctx, r.Kernel == "", "predict", r.Cell); err != nil {
			return err
		}
	}
	virtual, err := r.machine(ctx)
	if err != nil {
		return err
	}
	if r.have, err = r.programs(ctx, r.kit, r.out.bin()); err != nil {
		return err
	}
	r.guest.Agent, r.guest.VirtualTime = r.have.agent, virtual
	if err := r.askKernels(ctx); err != nil {
		return err
	}
	r.filter()
	if err := r.selectSpecs(ctx); err != nil {
		return err
	}
	return r.become()
}

// inside runs a subcommand of this program in the sandbox. What it says is shown, or not.
func (r *run) inside(ctx context.Context, show bool, argv ...string) error {
	c, err := r.boxed(ctx, argv...)
	if err != nil {
		return err
	}
	if c.Stderr = os.Stderr; show {
		c.Stdout = os.Stdout
	}
	return exited(c)
}

// boxed is a subcommand of this program in the sandbox.
func (r *run) boxed(ctx context.Context, argv ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	argv, err = cli.InSandbox(append([]string{self}, argv...)...)
	if err != nil {
		return nil, err
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...), nil //nolint:gosec // ourselves
}

// exited runs a command that says itself what was wrong.
func exited(c *exec.Cmd) error {
	_, status, err := cli.Child(c)
	if err == nil && status != 0 {
		err = cli.StatusError{Status: cli.NotRun}
	}
	return err
}

// machine says what can be known before about the machine of --kernel all=, and whether idle
// time passes at once there.
func (r *run) machine(ctx context.Context) (virtual bool, err error) {
	if r.Kernel == "" {
		return false, nil
	}
	r.guest = guest.Machine{Kernel: r.Kernel, Sysctls: r.Sysctls, Results: r.out.dir}
	if r.Cell != "" {
		r.guest.Files = append(r.guest.Files, r.Cell)
	}
	accelerator, err := r.guest.Check(ctx)
	virtual = r.VirtualTime == "true" || r.VirtualTime == "auto" && accelerator != string(machines.KVM)
	if virtual {
		r.suite = append(r.suite, "-virtual-time")
	}
	return virtual, err
}

// askKernels boots the kernels of roles once, and asks what they can do: the suite goes by
// that.
func (r *run) askKernels(ctx context.Context) (err error) {
	if len(r.Kernels) == 0 {
		return nil
	}
	path := r.out.path("kernels.json")
	file, err := os.Create(path)
	if err != nil {
		return cannotWrite(r.out.dir, err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	c, err := r.boxed(ctx, append([]string{"probe", "--agent=" + r.have.agent, "--"}, r.Kernels...)...)
	if err != nil {
		return err
	}
	c.Stdout, c.Stderr = file, os.Stderr
	r.suite = append(r.suite, "-kernels="+path)
	return exited(c)
}

// filter narrows the label filter to what can be run.
func (r *run) filter() {
	switch {
	case r.Cell != "":
		r.LabelFilter = "yours"
		r.suite = append(r.suite, "-cell="+r.Cell)
	case len(r.Kernels) > 0 && r.LabelFilter != "":
		r.LabelFilter = "cell && (" + r.LabelFilter + ")"
	case len(r.Kernels) > 0:
		r.LabelFilter = "cell"
	}
	if r.LabelFilter != "" {
		r.ginkgo = append(r.ginkgo, "--label-filter="+r.LabelFilter)
	}
}

// env is the environment of the suite.
func (r *run) env() []string {
	env := append(os.Environ(), "TWLAB_OUTPUT_DIR="+r.out.dir)
	// Small heaps, often collected: a tenth of the suite's user time otherwise.
	if os.Getenv("GOGC") == "" {
		env = append(env, "GOGC=400")
	}
	// There are many more processes than processors, and nothing in one that would
	// gain by a second: idle threads that look for work are a quarter of it all.
	if os.Getenv("GOMAXPROCS") == "" {
		env = append(env, "GOMAXPROCS=1")
	}
	return env
}

var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// selectSpecs: what is wrong with the flags is told here, once, and not by every process of
// the run; and what the run is made of is found out here for all of them.
func (r *run) selectSpecs(ctx context.Context) error {
	if r.dryRun {
		return nil
	}
	plan := filepath.Join(r.out.bin(), "plan")
	if err := errors.Join(os.RemoveAll(plan), os.Mkdir(plan, 0o755)); err != nil {
		return cannotWrite(r.out.dir, err)
	}
	argv := append([]string{r.have.ginkgo, "run", "--dry-run", "--procs=1", "--succinct", "--no-color"},
		r.without("repeat", "until-it-fails", "v", "vv", "p", "github-output")...)
	argv = append(append(append(argv, r.have.suite, "--"), r.suite...), "-plan-to="+plan)
	argv, err := cli.InSandbox(argv...)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // ours
	c.Dir, c.Env = r.out.bin(), r.env()
	var said strings.Builder
	c.Stdout, c.Stderr = &said, &said
	_, status, err := cli.Child(c)
	if err != nil {
		return err
	}
	if status != 0 {
		return wrongSelection(colour.ReplaceAllString(said.String(), "")) // it has some whatever it is told
	}
	text, err := os.ReadFile(filepath.Join(plan, "selected"))
	if err != nil {
		return fmt.Errorf("which specs are selected: %w", err)
	}
	if _, err := fmt.Sscan(string(text), &r.selected, &r.slow); err != nil {
		return fmt.Errorf("which specs are selected: %w", err)
	}
	if r.Kernel != "" {
		return nil // what another kernel has, only that one knows
	}
	if r.selected == 0 {
		return r.nothingSelected()
	}
	r.memory = availableMemory()
	r.suite = append(r.suite, "-plan="+filepath.Join(plan, "plan.json"))
	return nil
}

// wrongSelection is what Ginkgo says of its flags, in one line.
func wrongSelection(said string) error {
	_, issues, found := strings.Cut(said, "configuration issues:")
	if !found {
		fmt.Fprintln(os.Stderr, said)
		return errors.New("the specs cannot be listed; see above")
	}
	issues, _, _ = strings.Cut(issues, "Learn more")
	var lines []string
	for line := range strings.Lines(issues) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return errors.New(strings.Join(lines, "; "))
}

// What a process of the suite takes at its end, when it hands over its report (27 267 specs:
// 1.04 GB). The rest of the memory is for what specs start.
const (
	memoryOfProcess = 100 << 20
	memoryOfSpec    = 36 << 10
)

// availableMemory is how many bytes processes can have before the kernel has to reclaim what
// is in use; 0 where it does not say.
func availableMemory() int {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kibibytes int
		if n, _ := fmt.Sscanf(line, "MemAvailable: %d kB", &kibibytes); n == 1 {
			return kibibytes << 10
		}
	}
	return 0
}

// procs is how many specs may run at the same time.
func (r *run) procs() int {
	const (
		most         = 48
		mostWithSlow = 64
		mostWithOwn  = 4 // each boots machines
		emulated     = 6 // a machine has as many processors as this one, and they may be emulated
	)
	switch {
	case r.dryRun || strings.HasPrefix(r.guestClock, "--sleep-on-failure"):
		return 1 // Ginkgo has it for one process only
	case r.Procs > 0:
		return r.Procs
	case r.Kernel != "" && r.guest.VirtualTime:
		return 1 // the machine has one processor, and loses nothing by waiting
	case r.Kernel != "":
		return emulated
	}
	// One for each spec that waits long, and one for four others; and each keeps its own
	// report of every spec.
	n := (r.selected-r.slow+3)/4 + r.slow
	if r.memory > 0 {
		n = min(n, max(1, r.memory/2/(memoryOfProcess+r.selected*memoryOfSpec)))
	}
	switch {
	case len(r.Kernels) > 0:
		return min(n, mostWithOwn)
	case r.slow > 0:
		return min(n, mostWithSlow)
	default:
		return min(n, most)
	}
}

// timeout is Ginkgo's. It would go by a clock that jumps over days where idle time passes at
// once: the guest is ended from outside there.
func (r *run) timeout() (string, error) {
	usual := "20m" // far beyond a good run; Ginkgo's hour is a long wait for a hang
	if len(r.Kernels) > 0 || r.guest.VirtualTime {
		usual = "6h" // every spec boots machines, a few at a time; or all is emulated, one spec after the other
	}
	limit := cmp.Or(r.Timeout, usual)
	if !r.guest.VirtualTime {
		return limit, nil
	}
	const century = "1000000h" // Ginkgo takes 0 for its own hour
	var err error
	r.guest.Timeout, err = time.ParseDuration(limit)
	return century, err
}

// become makes this process the run, so that whoever ends it ends the sandbox.
func (r *run) become() error {
	timeout, err := r.timeout()
	if err != nil {
		return fmt.Errorf("timeout: %w", err)
	}
	argv := []string{
		r.have.ginkgo, "run", "--procs=" + strconv.Itoa(r.procs()),
		"--randomize-all", // specs own their labs, so their order must not matter
		"--fail-on-empty", // a filter that matches nothing is a mistake, not a success
		"--timeout=" + timeout, "--output-dir=" + r.out.dir, "--junit-report=junit.xml", "--json-report=report.json",
	}
	onGitHub := os.Getenv("GITHUB_ACTIONS") == "true"
	if !onGitHub && !cli.IsTerminal(os.Stdout) {
		argv = append(argv, "--no-color")
	}
	if onGitHub {
		argv = append(argv, "--github-output")
	}
	argv = append(append(append(append(argv, r.ginkgo...), r.have.suite), "--"), r.suite...)
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if r.Kernel != "" {
		r.guest.Files = append(r.guest.Files, r.have.suite)
		argv = append([]string{self}, r.guest.Arguments(argv...)...)
	}
	argv, err = cli.InSandbox(append([]string{self, insideName}, argv...)...)
	if err != nil {
		return err
	}
	if err := r.out.inherit(); err != nil {
		return err
	}
	// Ginkgo derives the names of unfinished reports from here.
	if err := os.Chdir(r.out.bin()); err != nil {
		return fmt.Errorf("enter the output directory: %w", err)
	}
	return cli.Become(argv, r.env())
}
