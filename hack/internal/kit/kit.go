// Package kit finds what twlab needs beside itself: the tree that it was built from, or the
// directory of programs that hack/build has left. It refuses what is older than the tree.
package kit

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"twlab/hack/internal/cli"
)

// TreeVariable is the tree from which hack/twlab has built this program just now.
const TreeVariable = "TWLAB_TREE"

// The files of a directory that hack/build has left.
const (
	Program = "twlab"
	Suite   = "e2e.test"
	Ginkgo  = "ginkgo"
	sums    = "SHA256SUMS" // of all the others, as sha256sum -c reads it
	tree    = "tree.sum"   // of the sources that they were built from
)

// Agent is the file name of the guest agent for an architecture.
func Agent(arch string) string { return "agent-" + arch }

// Kit is what there is.
type Kit struct {
	// Tree is the repository; empty on a machine without it.
	Tree string
	// Built is the directory of programs that are ready; empty where they are to be built.
	Built string
}

// ErrOlder is what is wrong with programs that were built from other sources.
var ErrOlder = errors.New("this program was built from an older tree")

// Find looks around.
func Find() (Kit, error) {
	self, err := os.Executable()
	if err != nil {
		return Kit{}, fmt.Errorf("find this program: %w", err)
	}
	return find(filepath.Dir(self), os.Getenv(TreeVariable))
}

func find(dir, fresh string) (Kit, error) {
	k := Kit{Tree: above(dir)}
	_, err := os.Stat(filepath.Join(dir, sums))
	switch {
	case err == nil:
		k.Built = dir
		return k, k.current()
	case !errors.Is(err, fs.ErrNotExist):
		return k, fmt.Errorf("look for %s: %w", sums, err)
	case fresh != "":
		return Kit{Tree: fresh}, nil
	case k.Tree != "":
		return k, cli.NotRunError(errors.New("nobody knows whether this program is older than the tree that it is in: run hack/twlab, or what hack/build leaves"))
	default:
		return k, nil
	}
}

// above is the directory above dir that is our tree, or none.
func above(dir string) string {
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module twlab\n") {
			return dir
		}
		next := filepath.Dir(dir)
		if next == dir {
			return ""
		}
		dir = next
	}
}

// current refuses programs that were built from other sources than those of the tree they
// are in, and a twlab that is not the one of its directory.
func (k Kit) current() error {
	if err := k.verify(Program, tree); err != nil {
		return err
	}
	if k.Tree == "" {
		return nil
	}
	was, err := os.ReadFile(filepath.Join(k.Built, tree))
	if err != nil {
		return fmt.Errorf("sources of these programs: %w", err)
	}
	is, err := Fingerfingerprint(k.Tree)
	if err != nil {
		return err
	}
	if strings.TrimSpace(string(was)) != is {
		return cli.NotRunError(fmt.Errorf("%w (%s): run hack/build where Go is, or hack/bootstrap says how to get Go", ErrOlder, k.Built))
	}
	return nil
}

// Suite are the paths of Ginkgo and of the compiled suite, once it is sure that they are of
// one build with this program.
func (k Kit) Suite() (ginkgo, suite string, err error) {
	if err := k.verify(Ginkgo, Suite); err != nil {
		return "", "", err
	}
	return filepath.Join(k.Built, Ginkgo), filepath.Join(k.Built, Suite), nil
}

// Agent is the path of the guest agent for an architecture.
func (k Kit) Agent(arch string) (string, error) {
	if err := k.verify(Agent(arch)); err != nil {
		return "", err
	}
	return filepath.Join(k.Built, Agent(arch)), nil
}

// verify wants files to be as they were when the directory was made.
func (k Kit) verify(names ...string) error {
	file, err := os.Open(filepath.Join(k.Built, sums))
	if err != nil {
		return fmt.Errorf("sums of these programs: %w", err)
	}
	defer file.Close()
	want := map[string]string{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if sum, name, ok := strings.Cut(lines.Text(), "  "); ok {
			want[name] = sum
		}
	}
	for _, name := range names {
		is, err := sum(filepath.Join(k.Built, name))
		if err != nil {
			return cli.NotRunError(fmt.Errorf("%w: hack/build leaves it", err))
		}
		if is != want[name] {
			return cli.NotRunError(fmt.Errorf("%s is not of one build with the others in %s: run hack/build again", name, k.Built))
		}
	}
	return nil
}

// Seal finishes a directory of programs that were built from the tree.
func Seal(dir, of string, programs []string) error {
	fingerprint, err := Fingerfingerprint(of)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, tree), []byte(fingerprint+"\n"), 0o644); err != nil {
		return fmt.Errorf("note the sources: %w", err)
	}
	var text strings.Builder
	for _, name := range append(programs, tree) {
		s, err := sum(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		fmt.Fprintf(&text, "%s  %s\n", s, name)
	}
	if err := os.WriteFile(filepath.Join(dir, sums), []byte(text.String()), 0o644); err != nil {
		return fmt.Errorf("note the sums: %w", err)
	}
	return nil
}

// Open makes a directory ready for programs: it is no finished one until [Seal] says so.
func Open(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a directory for programs: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, sums)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("begin a directory of programs: %w", err)
	}
	return nil
}

// Fingerfingerprint is a sum of all sources of the tree.
func Fingerfingerprint(of string) (string, error) {
	all := sha256.New()
	add := func(path string) error {
		s, err := sum(filepath.Join(of, path))
		fmt.Fprintf(all, "%s  %s\n", s, path)
		return err
	}
	for _, path := range []string{"go.mod", "go.sum"} {
		if err := add(path); err != nil {
			return "", err
		}
	}
	for _, root := range []string{"e2e", "hack", "harness", "scenarios"} {
		err := fs.WalkDir(os.DirFS(of), root, func(path string, d fs.DirEntry, err error) error {
			// Tests are no part of the programs, but those that are the suite.
			test := strings.HasSuffix(path, "_test.go") && root != "e2e"
			if err != nil || !d.Type().IsRegular() || test || filepath.Ext(path) != ".go" {
				return err
			}
			return add(path)
		})
		if err != nil {
			return "", fmt.Errorf("sum of the sources: %w", err)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func sum(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	s := sha256.New()
	if _, err := io.Copy(s, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(s.Sum(nil)), nil
}

// Architectures are those for which a directory has a guest agent: this machine's, on which
// the whole suite can run, and the one of the kernels that single roles can have.
func Architectures() []string {
	if runtime.GOARCH == RoleArch {
		return []string{RoleArch}
	}
	return []string{runtime.GOARCH, RoleArch}
}

// RoleArch is the architecture of the kernels that single roles can have.
const RoleArch = "amd64"
