// Package kernels is the subcommand that keeps kernels by name: it lists, fetches, finds and
// removes them.
package kernels

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"twlab/hack/internal/cli"
	"twlab/harness/kernels"
)

const about = `Keeps kernels in a cache, by name; a lab can give them to a role. They come from Debian's
packages, from the mirror that this system's apt uses, and apt checks their signatures.

It needs no root, does not change the system's apt, and writes only to the cache. What an
interrupted fetch leaves there is never used as a kernel; the next fetch removes it.

` + statuses

const statuses = "Exit status: 0 if everything succeeded, 1 if not, 2 for wrong usage."

// options is what a command line asks for.
type options struct {
	names  []string
	dir    string // of the cache; "" is the user's
	cache  kernels.Cache
	mirror string
	debs   []string
}

// Command is the subcommand, with a subcommand for each thing that can be done.
func Command() *cobra.Command {
	var o options
	group := cli.Group(&cobra.Command{
		Use:   "kernels",
		Short: "Keep kernels by name: list, fetch, path, remove",
		Long:  about,
		Example: `  twlab kernels list
  twlab kernels fetch debian-6.1
  twlab kernels fetch --deb linux-image-4.9.0-13-amd64_4.9.228-1_amd64.deb debian-4.9
  twlab kernels path debian-6.1`,
	})
	group.PersistentFlags().StringVar(&o.dir, "cache", "",
		"`DIR` of the cache (default: $"+kernels.CacheVariable+", or twlab/kernels in the user's cache directory)")
	group.AddCommand(
		o.command("list", "List the kernels that can be fetched, and those that have been", "list", cobra.NoFileCompletions, func(c *cobra.Command) error {
			return list(o, c.OutOrStdout())
		}),
		o.fetchCommand(),
		o.command("path NAME", "Print two lines: the path of the image, and the directory of its modules (empty if it has none)", "path debian-6.1", o.fetched, func(c *cobra.Command) error {
			return path(o, c.OutOrStdout())
		}),
		o.command("remove NAME...", "Remove kernels from the cache", "remove debian-6.1", o.fetched, func(*cobra.Command) error {
			return remove(o)
		}),
	)
	return group
}

// command is one of the subcommands: it does its work with the names of the command line.
func (o *options) command(use, short, example string, complete cobra.CompletionFunc, do func(*cobra.Command) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: short + ".\n\n" + statuses, Example: "  twlab kernels " + example, ValidArgsFunction: complete,
		RunE: func(c *cobra.Command, names []string) (err error) {
			o.names = names
			if err := o.open(); err != nil {
				return err
			}
			return do(c)
		},
	}
}

func (o *options) fetchCommand() *cobra.Command {
	names := cobra.FixedCompletions(kernels.Names(), cobra.ShellCompDirectiveNoFileComp)
	c := o.command("fetch [NAME...]", "Get kernels into the cache: from a mirror of Debian, or from packages", "fetch debian-6.1", names, func(c *cobra.Command) error {
		ctx, stop := cli.Interruptible(c.Context())
		defer stop()
		return fetch(ctx, *o, c.ErrOrStderr())
	})
	c.Flags().StringVar(&o.mirror, "mirror", "", "`URL` of another mirror, or of an archive of past releases")
	c.Flags().StringArrayVar(&o.debs, "deb", nil, "`FILE` of the kernel's package or, if they are separate, of its modules' package; may be repeated.\n"+
		"Its signature is not checked. Without NAME the kernel gets the name of its release")
	return c
}

// open finds the cache.
func (o *options) open() (err error) {
	if o.dir == "" {
		o.cache, err = kernels.DefaultCache()
		return err
	}
	o.cache.Dir, err = filepath.Abs(o.dir)
	return err
}

// fetched completes the names of kernels that are there.
func (o *options) fetched(*cobra.Command, []string, string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if o.open() != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	there, _ := o.cache.List() // what is damaged is no name to give
	for _, k := range there {
		names = append(names, k.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func list(o options, stdout io.Writer) error {
	if len(o.names) > 0 {
		return cli.Usage(fmt.Errorf("list wants no names"))
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
		return cli.Usage(fmt.Errorf("fetch wants a name: %s", strings.Join(kernels.Names(), ", ")))
	case len(names) > 1 && len(o.debs) > 0:
		return cli.Usage(fmt.Errorf("packages make one kernel, and %s are several names", strings.Join(names, ", ")))
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
		return cli.Usage(fmt.Errorf("path wants one name"))
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
		return cli.Usage(fmt.Errorf("remove wants a name"))
	}
	var failures []error
	for _, name := range o.names {
		failures = append(failures, o.cache.Remove(name))
	}
	return errors.Join(failures...)
}
