package scriptfile

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// mistaken are files with mistakes. Those below structure are wrong by their form, which the
// schema sees as well; those below text are not even YAML.
func mistaken(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/mistakes/*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	return files
}

func golden(name string) string { return strings.TrimSuffix(name, ".yaml") + ".txt" }

func TestWhatIsSaidOfMistakes(t *testing.T) {
	for _, name := range mistaken(t) {
		t.Run(filepath.Base(name), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Read(filepath.Base(name), text)
			if err == nil {
				t.Fatal("nothing is wrong with it")
			}
			said := err.Error() + "\n"
			if *update {
				if err := os.WriteFile(golden(name), []byte(said), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden(name))
			if err != nil {
				t.Fatal(err)
			}
			if said != string(want) {
				t.Errorf("said\n%s\nwant\n%s\n(go test ./harness/scriptfile -update writes it anew)", said, want)
			}
		})
	}
}

func TestTheSchemaRefusesTheFormOfMistakes(t *testing.T) {
	s := schemaOfFiles(t)
	for _, name := range mistaken(t) {
		if !strings.Contains(name, "/structure/") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate(s, text); err == nil {
			t.Errorf("%s validates", name)
		}
	}
}

// Every sentence that the two packages can say is in a golden file.
func TestEverySentenceIsSaid(t *testing.T) {
	var said strings.Builder
	for _, name := range mistaken(t) {
		text, err := os.ReadFile(golden(name))
		if err != nil {
			t.Fatal(err)
		}
		said.Write(text)
	}
	files, err := filepath.Glob("../script*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	found, exempt := 0, maps.Clone(onlyInGo)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		sentences{func(at token.Pos, text string) {
			found++
			if exempt[text] {
				delete(exempt, text)
				return
			}
			if !pattern(text).MatchString(said.String()) {
				t.Errorf("%s: no golden file says %q", set.Position(at), text)
			}
		}}.in(tree)
	}
	for text := range exempt {
		t.Errorf("nobody says %q any more: strike it off", text)
	}
	if found < 100 {
		t.Errorf("%d sentences found, want at least 100: has their form changed?", found)
	}
}

// onlyInGo are sentences about scenarios that no file can describe, or no small one.
var onlyInGo = map[string]bool{
	"%q has no address": true, // each address of a file gets one
	"%q: want rebind or master-worker, or leave it out": true, // the reader takes only these
	"too long: a scenario has at most %d bytes":         true, // TestAFileOfAStrangerIsData
	"the format of files cannot say this scenario":      true, // Write says it
	"a group without nodes":                             true, // of a file, it has a count
	"only haproxy has idle-close-on-response, server-close, no-linger, takeover and what is like them": true, // nginx has no such keys
}

var verbs = regexp.MustCompile(`%[a-z]`)

// pattern matches a sentence with whatever its verbs stand for.
func pattern(sentence string) *regexp.Regexp {
	parts := verbs.Split(sentence, -1)
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(strings.Join(parts, ".*"))
}

// sentences finds the texts that files get to hear: those with several words, that are not the
// documentation of keys.
type sentences struct {
	found func(at token.Pos, text string)
}

// documents are functions whose own arguments are documentation, or patterns.
var documents = map[string]bool{
	"verb": true, "scalarVerb": true, "scalarOf": true, "MustCompile": true, "Errorf": true, "Join": true, "Fprintf": true,
}

func (s sentences) in(tree ast.Node) {
	ast.Inspect(tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.StructType:
			return false
		case *ast.FuncDecl:
			// String writes what files have; Schema has a vocabulary of its own.
			return n.Name.Name != "String" && n.Name.Name != "Schema"
		case *ast.CompositeLit:
			s.below(n.Elts, documented(n))
			return false
		case *ast.CallExpr:
			s.in(n.Fun)
			s.below(n.Args, documents[name(n.Fun)])
			return false
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if n.Kind == token.STRING && err == nil && strings.Contains(strings.TrimSpace(text), " ") {
				s.found(n.Pos(), text)
			}
		}
		return true
	})
}

// below looks into the elements of a literal or the arguments of a call; their own texts are
// left out if they are documentation.
func (s sentences) below(all []ast.Expr, documentation bool) {
	for _, e := range all {
		if _, text := e.(*ast.BasicLit); !text || !documentation {
			s.in(e)
		}
	}
}

// documented reports whether a literal is a field or a value, which begin with documentation:
// the types of elements are left out in lists.
func documented(n *ast.CompositeLit) bool {
	if n.Type == nil {
		return len(n.Elts) == 3
	}
	return name(n.Type) == "value" || name(n.Type) == "field"
}

func name(of ast.Expr) string {
	switch of := of.(type) {
	case *ast.Ident:
		return of.Name
	case *ast.SelectorExpr:
		return of.Sel.Name
	default:
		return ""
	}
}
