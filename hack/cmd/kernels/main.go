// Command kernels keeps kernels by name; hack/kernels is how it is called:
//
//	kernels list | fetch NAME... | path NAME | remove NAME...
//
// The exit code is 1 when something did not work, 2 for bad usage.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"

	"twlab/harness/kernels"
)

const usage = `usage: hack/kernels list
       hack/kernels fetch NAME... [--mirror URL]
       hack/kernels fetch [NAME] --deb FILE [--deb FILE]
       hack/kernels path NAME
       hack/kernels remove NAME...

Keeps kernels that labs can give to a role, by name.

  list     what can be had and what is there
  fetch    brings kernels into the cache: from a mirror of Debian that this
           system's apt uses, checked by its signatures, or from packages
  path     prints two lines: the image, and the directory of its modules (an
           empty line when it has none)
  remove   takes kernels out of the cache

  --mirror URL   another mirror, or an archive of past releases
  --deb FILE     a package that you have: the kernel's and, where they are apart,
                 its modules' too. Nobody checks its signature. Without NAME it
                 is called by its release
  --cache DIR    where kernels are kept (default: $TWLAB_KERNELS, or
                 twlab/kernels in the user's cache directory)
  --help         this text

Needs no root. Touches nothing of the system's apt, and nothing outside of the
cache. What an interrupted fetch leaves there is never taken for a kernel, and is
removed by the next fetch.

Exit status: 0 when all went well, 1 when not, 2 for bad usage.
`

// usageError is somebody's slip at the command line.
type usageError struct{ what string }

func (e usageError) Error() string { return e.what + "; see hack/kernels --help" }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	var slip usageError
	switch {
	case err == nil:
	case errors.As(err, &slip):
		fmt.Fprintf(os.Stderr, "hack/kernels: %v\n", err)
		os.Exit(2)
	default:
		fmt.Fprintf(os.Stderr, "hack/kernels: %v\n", err)
		os.Exit(1)
	}
}

// options are what may stand anywhere after the command's name.
type options struct {
	names  []string
	cache  kernels.Cache
	mirror string
	debs   []string
	help   bool
}

func run(ctx context.Context, arguments []string, stdout, stderr io.Writer) error {
	if len(arguments) == 0 {
		return usageError{"no command: want list, fetch, path or remove"}
	}
	switch arguments[0] {
	case "help", "-h", "-help", "--help":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	o, err := parse(arguments[1:])
	if err != nil {
		return err
	}
	if o.help {
		_, err := io.WriteString(stdout, usage)
		return err
	}
	if arguments[0] != "fetch" && (o.mirror != "" || len(o.debs) > 0) {
		return usageError{"--mirror and --deb belong to fetch"}
	}
	switch arguments[0] {
	case "list":
		return list(o, stdout)
	case "fetch":
		return fetch(ctx, o, stderr)
	case "path":
		return path(o, stdout)
	case "remove":
		return remove(o)
	default:
		return usageError{fmt.Sprintf("unknown command %q: want list, fetch, path or remove", arguments[0])}
	}
}

// parse takes flags before, between and after names.
func parse(arguments []string) (options, error) {
	var o options
	var dir string
	flags := flag.NewFlagSet("kernels", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&dir, "cache", "", "")
	flags.StringVar(&o.mirror, "mirror", "", "")
	flags.Func("deb", "", func(path string) error {
		o.debs = append(o.debs, path)
		return nil
	})
	for len(arguments) > 0 {
		err := flags.Parse(arguments)
		if errors.Is(err, flag.ErrHelp) {
			return options{help: true}, nil
		}
		if err != nil {
			return options{}, usageError{err.Error()}
		}
		arguments = flags.Args()
		if len(arguments) > 0 {
			o.names = append(o.names, arguments[0])
			arguments = arguments[1:]
		}
	}
	if dir == "" {
		cache, err := kernels.DefaultCache()
		o.cache = cache
		return o, err
	}
	absolute, err := filepath.Abs(dir)
	o.cache = kernels.Cache{Dir: absolute}
	return o, err
}

func list(o options, stdout io.Writer) error {
	if len(o.names) > 0 {
		return usageError{"list wants no names"}
	}
	// What is damaged does not hide the rest.
	fetched, damaged := o.cache.List()
	table := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tFETCHED\tRELEASE\tSIZE\tFROM\tFOR")
	for _, e := range kernels.Catalogue() {
		k, is := take(&fetched, e.Name)
		if is {
			row(table, k, e.Purpose)
			continue
		}
		from := "suite " + e.Suite
		if e.Archived {
			from += " (archived: --mirror or --deb)"
		}
		fmt.Fprintf(table, "%s\tno\t%s\t\t%s\t%s\n", e.Name, e.Series, from, e.Purpose)
	}
	for _, k := range fetched {
		row(table, k, "")
	}
	return errors.Join(table.Flush(), damaged)
}

// take moves a kernel out of a list.
func take(from *[]kernels.Kernel, name string) (kernels.Kernel, bool) {
	for i, k := range *from {
		if k.Name == name {
			*from = append((*from)[:i:i], (*from)[i+1:]...)
			return k, true
		}
	}
	return kernels.Kernel{}, false
}

func row(table io.Writer, k kernels.Kernel, purpose string) {
	fmt.Fprintf(table, "%s\tyes\t%s\t%d MB\t%s\t%s\n", k.Name, k.Release, k.Size/1_000_000, k.Origin, purpose)
}

func fetch(ctx context.Context, o options, stderr io.Writer) error {
	names := o.names
	switch {
	case len(names) == 0 && len(o.debs) == 0:
		return usageError{"fetch wants a name: " + strings.Join(kernels.Names(), ", ")}
	case len(names) > 1 && len(o.debs) > 0:
		return usageError{"packages make one kernel, and " + strings.Join(names, ", ") + " are several names"}
	case len(names) == 0:
		names = []string{""} // called by its release
	}
	for _, name := range names {
		label := name
		if label == "" {
			label = filepath.Base(o.debs[0])
		}
		tell := func(step string) { fmt.Fprintf(stderr, "%s: %s\n", label, step) }
		k, err := o.cache.Fetch(ctx, kernels.Request{Name: name, Mirror: o.mirror, Debs: o.debs, Progress: tell})
		if err != nil {
			return err
		}
		tell(summary(k))
	}
	return nil
}

func summary(k kernels.Kernel) string {
	line := fmt.Sprintf("Linux %s is in %s (%d MB)", k.Release, filepath.Dir(k.Image), k.Size/1_000_000)
	if k.Modules == "" {
		line += ", without modules: when the kernel needs some, give their package with another --deb"
	}
	return line
}

func path(o options, stdout io.Writer) error {
	if len(o.names) != 1 {
		return usageError{"path wants one name"}
	}
	k, err := o.cache.Find(o.names[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "%s\n%s\n", k.Image, k.Modules)
	return err
}

func remove(o options) error {
	if len(o.names) == 0 {
		return usageError{"remove wants a name"}
	}
	var failures []error
	for _, name := range o.names {
		failures = append(failures, o.cache.Remove(name))
	}
	return errors.Join(failures...)
}
