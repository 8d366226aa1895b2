package scenarios

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// file is where a family is written down.
func file(f Driven) string {
	pc := reflect.ValueOf(f.Topology).Pointer()
	name, _ := runtime.FuncForPC(pc).FileLine(pc)
	return "scenarios/" + filepath.Base(name)
}

// source is the code of this package, for what must be so without anybody running it.
// What other packages declare is not known in it.
type source struct {
	files *token.FileSet
	info  *types.Info
	// body has what each function and method does.
	body map[*types.Func]*ast.FuncDecl
}

// nothingOf stands in for all other packages, which are not read.
type nothingOf struct{}

func (nothingOf) Import(name string) (*types.Package, error) {
	p := types.NewPackage(name, path.Base(name))
	p.MarkComplete()
	return p, nil
}

func readSource(t *testing.T) source {
	t.Helper()
	s := source{
		files: token.NewFileSet(), body: map[*types.Func]*ast.FuncDecl{},
		info: &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{},
		},
	}
	var files []*ast.File
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.files, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	ignored := func(error) {} // of other packages there is nothing
	_, _ = (&types.Config{Importer: nothingOf{}, Error: ignored}).Check("scenarios", s.files, files, s.info)
	for _, f := range files {
		for _, d := range f.Decls {
			if decl, isFunc := d.(*ast.FuncDecl); isFunc {
				if of, known := s.info.Defs[decl.Name].(*types.Func); known {
					s.body[of] = decl
				}
			}
		}
	}
	return s
}

// where is the place of something in the code.
func (s source) where(n ast.Node) string {
	at := s.files.Position(n.Pos())
	return "scenarios/" + at.Filename + ":" + strconv.Itoa(at.Line)
}

// reachable are the functions that the named one calls or hands on, and those that
// these do.
func (s source) reachable(from string) map[*types.Func]bool {
	reached := map[*types.Func]bool{}
	var visit func(*types.Func)
	visit = func(f *types.Func) {
		if f = f.Origin(); reached[f] || s.body[f] == nil {
			return
		}
		reached[f] = true
		ast.Inspect(s.body[f], func(n ast.Node) bool {
			if id, isIdent := n.(*ast.Ident); isIdent {
				if called, isFunc := s.info.Uses[id].(*types.Func); isFunc {
					visit(called)
				}
			}
			return true
		})
	}
	for f := range s.body {
		if f.Name() == from && f.Signature().Recv() == nil {
			visit(f)
		}
	}
	return reached
}

// note is a place at which a driver notes evidence.
type note struct {
	where string
	// name matches the names that it may have there: one, unless that is decided when
	// it runs.
	name *regexp.Regexp
	in   *types.Func
}

// notes are the places in a function at which it notes evidence.
func (s source) notes(in *types.Func) (all []note) {
	ast.Inspect(s.body[in], func(n ast.Node) bool {
		call, isCall := n.(*ast.CallExpr)
		if !isCall {
			return true
		}
		called, isMethod := call.Fun.(*ast.SelectorExpr)
		if !isMethod {
			return true
		}
		f, known := s.info.Uses[called.Sel].(*types.Func)
		if !known || f.FullName() != "(*scenarios.Seen).Note" && f.FullName() != "(*scenarios.Seen).Count" {
			return true
		}
		all = append(all, note{s.where(call), regexp.MustCompile("^" + s.pattern(call.Args[0], nil) + "$"), in})
		return true
	})
	return all
}

// pattern is a regular expression of the texts that an expression can be, given those
// of a function's parameters.
func (s source) pattern(e ast.Expr, given map[types.Object]string) string {
	if v := s.info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return regexp.QuoteMeta(constant.StringVal(v))
	}
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil {
			return regexp.QuoteMeta(text)
		}
	case *ast.BinaryExpr:
		return s.pattern(e.X, given) + s.pattern(e.Y, given)
	case *ast.Ident:
		if text, known := given[s.info.Uses[e]]; known {
			return text
		}
	case *ast.CallExpr:
		id, isIdent := e.Fun.(*ast.Ident)
		if !isIdent {
			break
		}
		called, isFunc := s.info.Uses[id].(*types.Func)
		if !isFunc || s.body[called] == nil {
			break
		}
		result, isReturn := s.body[called].Body.List[0].(*ast.ReturnStmt)
		if !isReturn || len(result.Results) != 1 {
			break
		}
		parameters := map[types.Object]string{}
		for i := range called.Signature().Params().Len() {
			parameters[called.Signature().Params().At(i)] = s.pattern(e.Args[i], given)
		}
		return s.pattern(result.Results[0], parameters)
	}
	return ".*"
}

// texts are the string literals of a function, with where they are.
func (s source) texts(in ast.Node, each func(text, where string)) {
	ast.Inspect(in, func(n ast.Node) bool {
		if lit, isLit := n.(*ast.BasicLit); isLit && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				each(text, s.where(lit))
			}
		}
		return true
	})
}

// constructors are the names of the functions that make the families.
func (s source) constructors(t *testing.T) (names []string) {
	t.Helper()
	for f, decl := range s.body {
		if f.Name() != "Families" {
			continue
		}
		ast.Inspect(decl.Body, func(n ast.Node) bool {
			if call, isCall := n.(*ast.CallExpr); isCall {
				if maker, isIdent := call.Fun.(*ast.Ident); isIdent {
					names = append(names, maker.Name)
				}
			}
			return true
		})
	}
	if len(names) != len(Families()) {
		t.Fatalf("Families() is not read: %d functions of %d", len(names), len(Families()))
	}
	return names
}

// A counter that is read by a text is 0 when the text is misspelt.
func TestCountersAreReadByTheirVariables(t *testing.T) {
	s := readSource(t)
	named := regexp.MustCompile(`(?:^| )((?:Ip|IpExt|Tcp|TcpExt|Conntrack)\.[A-Za-z_]+)$`)
	ofKernel := regexp.MustCompile(`^[A-Z]\w*\.\w+$`) // a program's own are "frontend.scur"
	for f, decl := range s.body {
		s.texts(decl, func(text, where string) {
			found := named.FindStringSubmatch(text)
			if found == nil {
				return
			}
			if err := (Family{}).Declares("balancer " + found[1]); err != nil {
				t.Errorf("%s: %v", where, err)
			}
		})
		ast.Inspect(decl, func(n ast.Node) bool {
			index, isIndex := n.(*ast.IndexExpr)
			if !isIndex {
				return true
			}
			v := s.info.Types[index.Index].Value
			if lit, isLit := index.Index.(*ast.BasicLit); isLit && v == nil && lit.Kind == token.STRING {
				v = constant.MakeFromLiteral(lit.Value, lit.Kind, 0)
			}
			if v != nil && v.Kind() == constant.String && ofKernel.MatchString(constant.StringVal(v)) {
				t.Errorf("%s: %s reads the counter %v by a text; declare a variable of it in harness/kernel/counters.go and read that: x.of(counters)",
					s.where(index), f.Name(), v)
			}
			return true
		})
	}
}

// What a driver notes must be declared by a family that it drives, and what a family
// declares must be noted by its driver. Names that are put together when the driver runs
// are checked then ([Driven.Try]).
func TestDriversNoteWhatTheirFamiliesDeclare(t *testing.T) {
	s := readSource(t)
	makers := s.constructors(t)
	declared := map[*types.Func][]Driven{} // by the functions that their drivers are made of
	for i, f := range Families() {
		reached := s.reachable(makers[i])
		var all []note
		anyName := false // some are put together from what is not known here
		literal := map[string]bool{}
		for in := range reached {
			declared[in] = append(declared[in], f)
			for _, n := range s.notes(in) {
				all = append(all, n)
				anyName = anyName || n.name.MatchString("\x00")
			}
			if at := s.where(s.body[in]); in.Name() != makers[i] && !strings.HasPrefix(at, "scenarios/vocabulary.go:") {
				s.texts(s.body[in], func(text, _ string) { literal[text] = true })
			}
		}
		if len(all) == 0 {
			t.Errorf("family %s: nothing that its driver notes was found in %s", f.Name, file(f))
		}
		for _, e := range f.Evidence {
			noted := anyName && literal[e.Name]
			for _, n := range all {
				noted = noted || !n.name.MatchString("\x00") && n.name.MatchString(e.Name)
			}
			if !noted {
				t.Errorf("family %s declares the evidence %q, and its driver never notes it: take it away in scenarios/vocabulary.go", f.Name, e.Name)
			}
		}
	}
	for in, families := range declared {
		for _, n := range s.notes(in) {
			if err := declares(families, n.name); err != nil {
				t.Errorf("%s: %v", n.where, err)
			}
		}
	}
}

// declares tells whether one of the families declares evidence of such a name.
func declares(families []Driven, name *regexp.Regexp) (err error) {
	for _, f := range families {
		for _, e := range f.Evidence {
			if name.MatchString(e.Name) {
				return nil
			}
		}
		err = f.Declares(strings.TrimSuffix(strings.TrimPrefix(name.String(), "^"), "$"))
	}
	return err
}
