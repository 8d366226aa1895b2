// Package cli is how the subcommands of twlab fail: with one line that says what to do, and
// an exit status.
package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"twlab/harness/nearest"
)

// The exit statuses of a program that has not done what it was asked for.
const (
	Failed = 1
	NotRun = 2
)

// StatusError is an error with the exit status that it ends the program by.
type StatusError struct {
	Status int
	Err    error // nil when all has been said already
}

func (e StatusError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Status)
	}
	return e.Err.Error()
}

func (e StatusError) Unwrap() error { return e.Err }

// UsageError is somebody's slip at the command line.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }

func (e UsageError) Unwrap() error { return e.Err }

// Usage says that an error is a slip at the command line.
func Usage(err error) error { return UsageError{err} }

// NotRunError says that nothing was run, and why. What has a status already, and nil, stays
// what it is.
func NotRunError(err error) error {
	var slip UsageError
	var status StatusError
	if err == nil || errors.As(err, &slip) || errors.As(err, &status) {
		return err
	}
	return StatusError{NotRun, err}
}

// SpeaksAs is the annotation of a command whose errors begin with another name than its path.
const SpeaksAs = "speaks as"

// Name is what the errors of a command begin with, and what its help is asked of.
func Name(c *cobra.Command) string { return cmp.Or(c.Annotations[SpeaksAs], c.CommandPath()) }

// Report writes an error as one line, and returns the exit status.
func Report(to io.Writer, c *cobra.Command, err error) int {
	var slip UsageError
	var status StatusError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &slip):
		fmt.Fprintf(to, "%s: %v; see %[1]s --help\n", Name(c), err)
		return NotRun
	case errors.As(err, &status):
		if status.Err != nil {
			fmt.Fprintf(to, "%s: %v\n", Name(c), err)
		}
		return status.Status
	default:
		fmt.Fprintf(to, "%s: %v\n", Name(c), err)
		return Failed
	}
}

// NoArguments wants no words beside the flags.
func NoArguments(_ *cobra.Command, words []string) error {
	if len(words) > 0 {
		return Usage(fmt.Errorf("argument %q belongs to no flag", words[0]))
	}
	return nil
}

// Group makes a command that only has subcommands: it helps, and names what is near to a
// slip.
func Group(c *cobra.Command) *cobra.Command {
	c.Args = cobra.ArbitraryArgs
	c.RunE = func(c *cobra.Command, words []string) error {
		var names []string
		for _, sub := range c.Commands() {
			if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
				names = append(names, sub.Name())
			}
		}
		if len(words) == 0 {
			return Usage(fmt.Errorf("no command: want one of %s", strings.Join(names, ", ")))
		}
		return Usage(fmt.Errorf("unknown command %q%s", words[0], near(words[0], names, "it is one of ")))
	}
	return c
}

// WrongFlag says of an error of the flags what somebody may have meant: the names that are
// near, or the command to which the flag belongs.
func WrongFlag(c *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return UsageError{err}
	}
	name := unknown.GetSpecifiedName()
	var known []string
	c.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return UnknownFlag(name, known, owners(c.Root(), name)...)
}

// UnknownFlag is the error of a flag that is none of the known: it names what is near, or the
// commands to which it belongs.
func UnknownFlag(name string, known []string, owners ...string) error {
	if len(owners) > 0 {
		return Usage(fmt.Errorf("--%s means nothing here; it belongs to %s", name, strings.Join(owners, ", ")))
	}
	dashed := make([]string, len(known))
	for i, k := range known {
		dashed[i] = "--" + k
	}
	return Usage(fmt.Errorf("unknown flag --%s%s", name, near("--"+name, dashed, "")))
}

// owners are the commands that have the flag.
func owners(c *cobra.Command, flag string) (paths []string) {
	if !c.Hidden && c.LocalNonPersistentFlags().Lookup(flag) != nil {
		paths = append(paths, c.CommandPath())
	}
	for _, sub := range c.Commands() {
		paths = append(paths, owners(sub, flag)...)
	}
	return paths
}

// near is the end of a sentence: the names that are near to a slip or, where none is, and
// when others is not empty, all of them.
func near(slip string, names []string, others string) string {
	if hint := nearest.Hint(slip, names); hint != "" || others == "" {
		return hint
	}
	return "; " + others + strings.Join(names, ", ")
}
