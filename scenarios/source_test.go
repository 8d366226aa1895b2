package scenarios

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// file is where a family is written down.
func file(f situation.Family) string {
	pc := reflect.ValueOf(f.Topology).Pointer()
	name, _ := runtime.FuncForPC(pc).FileLine(pc)
	return filepath.Join("scenarios", filepath.Base(filepath.Dir(name)), filepath.Base(name))
}

// rulesFile is where a family's rules stand: beside it, where they have a file.
func rulesFile(f situation.Family) string {
	own := strings.TrimSuffix(file(f), ".go") + "_rules.go"
	if _, err := os.Stat(filepath.Join("..", own)); err == nil {
		return own
	}
	return file(f)
}

// source is the code of the claims' packages, for what must be so without anybody
// running it. What other packages declare is not known in it.
type source struct {
	files *token.FileSet
	info  *types.Info
	// body has what each function and method does.
	body map[*types.Func]*ast.FuncDecl
	// tables has the contents of each variable that is a map from the beginning.
	tables map[types.Object]*ast.CompositeLit
	read   map[string]*types.Package // by import path
}

const home = "twlab/scenarios"

func readSource(t *testing.T) source {
	t.Helper()
	s := source{
		files: token.NewFileSet(), body: map[*types.Func]*ast.FuncDecl{}, tables: map[types.Object]*ast.CompositeLit{},
		info: &types.Info{
			Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}, Defs: map[*ast.Ident]types.Object{},
		},
		read: map[string]*types.Package{},
	}
	if _, err := s.Import(home); err != nil {
		t.Fatal(err)
	}
	return s
}

// Import reads a package of the claims, and has an empty one stand in for any other.
func (s source) Import(name string) (*types.Package, error) {
	if p, done := s.read[name]; done {
		return p, nil
	}
	below, ours := strings.CutPrefix(name, home)
	if !ours {
		p := types.NewPackage(name, path.Base(name))
		p.MarkComplete()
		return p, nil
	}
	names, err := filepath.Glob(filepath.Join(".", below, "*.go"))
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.files, name, nil, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	ignored := func(error) {} // of other packages there is nothing
	p, _ := (&types.Config{Importer: s, Error: ignored}).Check(name, s.files, files, s.info)
	s.read[name] = p
	for _, f := range files {
		for _, d := range f.Decls {
			if decl, isFunc := d.(*ast.FuncDecl); isFunc {
				if of, known := s.info.Defs[decl.Name].(*types.Func); known {
					s.body[of] = decl
				}
			}
		}
		ast.Inspect(f, s.table)
	}
	return p, nil
}

// table notes the contents of a variable that is a map from the beginning.
func (s source) table(n ast.Node) bool {
	note := func(name *ast.Ident, value ast.Expr) {
		if lit, isLit := value.(*ast.CompositeLit); isLit {
			if _, isMap := lit.Type.(*ast.MapType); isMap {
				s.tables[s.info.Defs[name]] = lit
			}
		}
	}
	switch n := n.(type) {
	case *ast.ValueSpec:
		for i, value := range n.Values {
			note(n.Names[i], value)
		}
	case *ast.AssignStmt:
		for i, to := range n.Lhs {
			if name, isName := to.(*ast.Ident); isName && n.Tok == token.DEFINE && len(n.Lhs) == len(n.Rhs) {
				note(name, n.Rhs[i])
			}
		}
	}
	return true
}

// where is the place of something in the code.
func (s source) where(n ast.Node) string {
	at := s.files.Position(n.Pos())
	return "scenarios/" + at.Filename + ":" + strconv.Itoa(at.Line)
}

// reachable are the functions that this one calls or hands on, and those that these
// do.
func (s source) reachable(from *types.Func) map[*types.Func]bool {
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
	visit(from)
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
		if !known || f.FullName() != "(*"+home+"/claim.Seen).Note" && f.FullName() != "(*"+home+"/claim.Seen).Count" {
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
		called, isFunc := s.called(e)
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

// called is the function that is called by its name.
func (s source) called(e *ast.CallExpr) (f *types.Func, named bool) {
	switch name := e.Fun.(type) {
	case *ast.Ident:
		f, named = s.info.Uses[name].(*types.Func)
	case *ast.SelectorExpr:
		f, named = s.info.Uses[name.Sel].(*types.Func)
	}
	return f, named
}

// constructors are the functions that make the families.
func (s source) constructors(t *testing.T) (all []*types.Func) {
	t.Helper()
	for f, decl := range s.body {
		if f.FullName() != home+".Families" {
			continue
		}
		ast.Inspect(decl.Body, func(n ast.Node) bool {
			if call, isCall := n.(*ast.CallExpr); isCall {
				if maker, named := s.called(call); named {
					all = append(all, maker)
				}
			}
			return true
		})
	}
	if len(all) != len(Families()) {
		t.Fatalf("Families() is not read: %d functions of %d", len(all), len(Families()))
	}
	return all
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
			if err := (claim.Family{}).Declares("balancer " + found[1]); err != nil {
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
// are checked then ([situation.Family.Try]).
func TestDriversNoteWhatTheirFamiliesDeclare(t *testing.T) {
	s := readSource(t)
	makers := s.constructors(t)
	declared := map[*types.Func][]situation.Family{} // by the functions that their drivers are made of
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
			if in != makers[i] && !strings.HasSuffix(in.Name(), "Evidence") && !wants(in) {
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
				t.Errorf("family %s declares the evidence %q, and its driver never notes it: take it away where it is declared", f.Name, e.Name)
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

// wants tells whether the function makes rules, or what they want: it has the names of
// evidence, and notes none.
func wants(f *types.Func) bool {
	for result := range f.Signature().Results().Variables() {
		switch result.Type().String() {
		case "[]" + home + "/claim.Rule", "[]" + home + "/claim.Expectation":
			return true
		}
	}
	return false
}

// declares tells whether one of the families declares evidence of such a name.
func declares(families []situation.Family, name *regexp.Regexp) (err error) {
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
