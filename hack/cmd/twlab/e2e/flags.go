package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sys/unix"

	"twlab/hack/cmd/twlab/probe"
	"twlab/hack/internal/cli"
)

// Request is what a command line of the suite's asks for.
type Request struct {
	Output      string // directory of results; "" is the usual one
	Procs       int    // 0 is as many as are good for the selected specs
	Timeout     string // "" is the usual one
	Cell        string // file with cells of the user's own
	LabelFilter string
	Kernel      string   // that the whole suite runs on: --kernel all=
	Kernels     []string // of roles, ROLE=KERNEL
	Sysctls     []string // of the machine that Kernel gets
	VirtualTime string   // "", "true" or "auto"
	Race        bool
	Suite       []string // flags behind "--"

	ginkgo     []string // Ginkgo's flags, --name=value
	guestClock string   // one of them that goes by the guest's clock
	dryRun     bool
}

// ErrHelp is no error: somebody wants to know what flags there are.
var ErrHelp = flag.ErrHelp

// ginkgoConfig is where Ginkgo's flags keep their values; its fields are the beginnings of
// their key paths.
type ginkgoConfig struct {
	S  *types.SuiteConfig
	R  *types.ReporterConfig
	C  *types.CLIConfig
	Go *types.GoFlagsConfig
}

// nothing are Ginkgo's flags that mean nothing to one suite that is compiled already, and why.
var nothing = map[string]string{
	"nodes": "say --procs", "keep-going": "there is one suite", "randomize-suites": "there is one suite",
	"keep-separate-coverprofiles": "there is one suite", "keep-separate-reports": "there is one suite",
	"coverprofile": "the suite is built without coverage",
}

// ginkgoFlags are those of Ginkgo's flags that mean something here, and those that do not.
func ginkgoFlags() (useful *flag.FlagSet, config ginkgoConfig, useless map[string]string, err error) {
	config = ginkgoConfig{&types.SuiteConfig{}, &types.ReporterConfig{}, &types.CLIConfig{}, &types.GoFlagsConfig{}}
	useless = map[string]string{}
	for name, why := range nothing {
		useless[name] = why
	}
	for _, f := range types.GinkgoCLISharedFlags {
		useless[f.Name] = "there is one suite"
	}
	for _, f := range types.GoBuildFlags {
		useless[f.Name] = "it is for building, which hack/e2e does its own way"
	}
	var flags types.GinkgoFlags
	for _, group := range []types.GinkgoFlags{types.SuiteConfigFlags, types.ReporterConfigFlags, types.GinkgoCLIRunAndWatchFlags, types.GinkgoCLIRunFlags, types.GoRunFlags} {
		for _, f := range group {
			// Names that Ginkgo had once would pass by ours of today.
			f.DeprecatedName = ""
			if f.Name != "" && useless[f.Name] == "" {
				flags = append(flags, f)
			}
		}
	}
	useful = flag.NewFlagSet("ginkgo", flag.ContinueOnError)
	if _, err = types.NewAttachedGinkgoFlagSet(useful, flags, &config, nil, types.GinkgoFlagSection{}); err != nil {
		return nil, config, nil, fmt.Errorf("flags of Ginkgo: %w", err)
	}
	return useful, config, useless, nil
}

var (
	aNumber = regexp.MustCompile(`^[1-9][0-9]*$`)
	aTime   = regexp.MustCompile(`^([0-9]+(\.[0-9]+)?(s|m|h))+$`)
)

// flags are our own flags, which write into the request.
func (r *Request) flags() *flag.FlagSet {
	own := flag.NewFlagSet("e2e", flag.ContinueOnError)
	own.Func("output-dir", "`DIR` for the results", func(dir string) error {
		if r.Output = dir; dir == "" {
			return cli.Usage(fmt.Errorf("--output-dir wants a directory"))
		}
		return nil
	})
	own.Func("procs", "number of specs that may run at the same time", func(text string) (err error) {
		if r.Procs, err = strconv.Atoi(text); err != nil || !aNumber.MatchString(text) {
			return cli.Usage(fmt.Errorf("--procs wants a number of at least 1, not '%s'", text))
		}
		return nil
	})
	own.Func("timeout", "how long the run may take", func(text string) error {
		if r.Timeout = text; !aTime.MatchString(text) {
			return cli.Usage(fmt.Errorf("--timeout wants a time such as 90s, 20m or 1h30m, not '%s'", text))
		}
		return nil
	})
	own.Func("kernel", "all=KERNEL or ROLE=KERNEL", func(text string) error {
		which, all := strings.CutPrefix(text, "all=")
		switch {
		case !all:
			r.Kernels = append(r.Kernels, text)
		case r.Kernel != "":
			return cli.Usage(fmt.Errorf("--kernel all= is for one kernel; twlab matrix runs the suite on several"))
		case which == "":
			return cli.Usage(fmt.Errorf("--kernel all= wants the name or path of a kernel; twlab kernels list has the names"))
		default:
			r.Kernel = which
		}
		return nil
	})
	own.Func("sysctl", "`NAME=VALUE` of the guest", func(text string) error {
		r.Sysctls = append(r.Sysctls, text)
		return nil
	})
	own.BoolFunc("virtual-time", "skip idle time", func(text string) error {
		if r.VirtualTime = text; text != "true" && text != "auto" {
			return cli.Usage(fmt.Errorf("--virtual-time=%s: want --virtual-time or --virtual-time=auto", text))
		}
		return nil
	})
	own.StringVar(&r.Cell, "cell", "", "`FILE` with your own cells")
	own.StringVar(&r.LabelFilter, "label-filter", "", "which specs")
	own.BoolVar(&r.Race, "race", false, "build with the race detector")
	return own
}

// Parse reads a command line of hack/e2e; further are the flags that its caller has beside
// them, or nil.
func Parse(arguments []string, further *flag.FlagSet) (r Request, err error) {
	ginkgo, config, useless, err := ginkgoFlags()
	if err != nil {
		return r, err
	}
	sets := []*flag.FlagSet{r.flags(), ginkgo}
	if further != nil {
		sets = append(sets, further)
	}
	for len(arguments) > 0 {
		word := arguments[0]
		arguments = arguments[1:]
		if word == "--" {
			r.Suite = arguments
			break
		}
		if len(word) < 2 || word[0] != '-' {
			return r, cli.Usage(fmt.Errorf("'%s' belongs to no flag (to choose specs: --focus '%[1]s')", word))
		}
		name, value, given := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
		if name == "help" || name == "h" {
			return r, ErrHelp
		}
		f := lookup(sets, name)
		if f == nil {
			return r, unknown(name, useless, sets)
		}
		switch {
		case given:
		case isBool(f):
			value = "true"
		case len(arguments) == 0:
			return r, cli.Usage(fmt.Errorf("%s needs a value", word))
		default:
			value, arguments = arguments[0], arguments[1:]
		}
		if err := f.Value.Set(value); err != nil {
			return r, flagError(name, value, err)
		}
		if sets[0].Lookup(name) == nil && ginkgo.Lookup(name) != nil {
			r.ginkgo = append(r.ginkgo, "--"+name+"="+value)
		}
		for _, clock := range []string{"poll-progress-", "grace-period", "sleep-on-failure"} {
			if strings.HasPrefix(name, clock) {
				r.guestClock = "--" + name // which is what it would count there
			}
		}
	}
	r.dryRun = config.S.DryRun
	return r, r.check()
}

func lookup(sets []*flag.FlagSet, name string) *flag.Flag {
	for _, s := range sets {
		if f := s.Lookup(name); f != nil {
			return f
		}
	}
	return nil
}

// names are those of all flags, for people who have mistyped one.
func names(sets []*flag.FlagSet) (all []string) {
	for _, s := range sets {
		s.VisitAll(func(f *flag.Flag) { all = append(all, f.Name) })
	}
	slices.Sort(all)
	return slices.Compact(all) // some are Ginkgo's and ours
}

func unknown(name string, useless map[string]string, sets []*flag.FlagSet) error {
	if why := useless[name]; why != "" {
		return cli.Usage(fmt.Errorf("--%s means nothing here: %s", name, why))
	}
	return cli.UnknownFlag(name, names(sets))
}

// isBool tells whether the flag may stand without a value.
func isBool(f *flag.Flag) bool {
	b, is := f.Value.(interface{ IsBoolFlag() bool })
	return is && b.IsBoolFlag()
}

// flagError is what a flag says of its value, with its name.
func flagError(name, value string, err error) error {
	var slip cli.UsageError
	if errors.As(err, &slip) {
		return err
	}
	return cli.Usage(fmt.Errorf("--%s '%s': %w", name, value, err))
}

// wantsVirtualTime tells whether the label filter asks for the cells that take hours.
func (r *Request) wantsVirtualTime() bool {
	return strings.Contains(r.LabelFilter, "virtual-time") && !strings.Contains(r.LabelFilter, "!virtual-time")
}

// check says what does not go together, and makes paths absolute.
func (r *Request) check() error {
	switch {
	case r.Kernel != "" && len(r.Kernels) > 0:
		return cli.Usage(fmt.Errorf("--kernel all= and --kernel ROLE= do not go together"))
	case r.Kernel != "" && r.Race:
		return cli.Usage(fmt.Errorf("--race needs libraries that a machine of --kernel has not"))
	case r.Kernel == "" && len(r.Sysctls) > 0:
		return cli.Usage(fmt.Errorf("--sysctl is for machines: give a kernel with --kernel all=NAME"))
	case r.Kernel == "" && r.VirtualTime != "":
		return cli.Usage(fmt.Errorf("--virtual-time is for machines: give a kernel with --kernel all=NAME"))
	case r.Cell != "" && r.LabelFilter != "":
		return cli.Usage(fmt.Errorf("--label-filter does not go with cells of your own, which all run"))
	case r.Kernel != "" && r.VirtualTime == "" && r.wantsVirtualTime():
		return cli.Usage(fmt.Errorf("cells with the label virtual-time take hours or days: add --virtual-time"))
	case r.VirtualTime != "" && r.guestClock != "":
		return cli.Usage(fmt.Errorf("%s goes by the guest's clock, which jumps over days with --virtual-time: leave it out (--timeout is of the wall's clock there)", r.guestClock))
	}
	if len(r.Kernels) > 0 {
		if err := probe.CheckWords(r.Kernels); err != nil {
			return cli.Usage(err)
		}
	}
	return errors.Join(r.resolveKernel(), r.resolveCell())
}

// resolveKernel makes paths of the suite's kernel absolute.
func (r *Request) resolveKernel() (err error) {
	image, modules, apart := strings.Cut(r.Kernel, ",")
	if apart {
		if info, err := os.Stat(modules); err != nil || !info.IsDir() {
			return cli.Usage(fmt.Errorf("cannot find the directory of modules '%s'", modules))
		}
		if modules, err = resolved(modules); err != nil {
			return err
		}
		modules = "," + modules
	}
	if strings.Contains(image, "/") {
		if err := readable(image); err != nil {
			return cli.Usage(fmt.Errorf("cannot read the kernel image '%s': %w; a name has no slash", image, err))
		}
		if image, err = resolved(image); err != nil {
			return err
		}
	}
	r.Kernel = image + modules
	return nil
}

func (r *Request) resolveCell() (err error) {
	if r.Cell == "" {
		return nil
	}
	if err := readable(r.Cell); err != nil {
		return cli.Usage(fmt.Errorf("cannot read the cells in '%s': %w", r.Cell, err))
	}
	r.Cell, err = resolved(r.Cell)
	return err
}

// readable is nil for a file that can be read.
func readable(path string) error {
	file, err := os.Open(path) //nolint:gosec // the caller's own
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = unix.EISDIR
	}
	return err
}

// resolved is a path from the root on, without links.
func resolved(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("resolve a path: %w", err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return "", fmt.Errorf("resolve a path: %w", err)
	}
	return path, nil
}

// without are Ginkgo's flags but for those of the names.
func (r *Request) without(names ...string) []string {
	return slices.DeleteFunc(slices.Clone(r.ginkgo), func(f string) bool {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		return slices.Contains(names, name)
	})
}
