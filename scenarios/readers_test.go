package scenarios

import (
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"maps"
	"slices"
	"strings"
	"testing"

	"twlab/scenarios/claim"
	"twlab/scenarios/situation"
)

// A driver that compares the value of an axis with some of its values, and not with all,
// would do for a new value what it does for another one, and the rules would be tried in
// the wrong cells. An axis that no driver reads changes nothing, unless it sets itself: a
// sysctl, or the version of IP (situation.Family.Lab).
func TestDriversKnowTheValuesOfTheirAxes(t *testing.T) {
	s := readSource(t)
	makers := s.constructors(t)
	for i, f := range Families() {
		r := s.readingOf(t, makers[i])
		for _, a := range f.Axes {
			told, compared := r.told[a.Name]
			setsItself := a.Sysctl != (claim.RoleSysctl{}) || a.Name == situation.IPAxis().Name
			if !r.read[a.Name] && !setsItself {
				t.Errorf("%s: nothing in the driver reads axis %s", file(f), a.Name)
			}
			for _, v := range a.Values {
				if compared && !told[v] {
					t.Errorf("%s: axis %s has the value %q, and the driver knows %q only: let it read the axis with Cell.Either, or with a switch that names every value",
						file(f), a.Name, v, slices.Sorted(maps.Keys(told)))
				}
			}
		}
	}
}

// reading is what a driver makes of a cell.
type reading struct {
	source
	parts []ast.Node
	// holds has the axes whose value a variable, a parameter, a field or the result of a
	// function may have.
	holds map[types.Object]map[string]bool
	// read are the axes that are read, and told the values with which each is compared.
	read map[string]bool
	told map[string]map[string]bool
}

// readingOf reads the driver of the family that a constructor makes: its topology, and
// what drives it.
func (s source) readingOf(t *testing.T, maker *types.Func) reading {
	t.Helper()
	r := reading{
		source: s, holds: map[types.Object]map[string]bool{}, read: map[string]bool{}, told: map[string]map[string]bool{},
	}
	reached := map[*types.Func]bool{}
	find := func(n ast.Node) bool {
		field, isField := n.(*ast.KeyValueExpr)
		if !isField {
			return true
		}
		if key, isIdent := field.Key.(*ast.Ident); !isIdent || key.Name != "Topology" && key.Name != "Drive" {
			return true
		}
		r.parts = append(r.parts, field.Value)
		ast.Inspect(field.Value, func(n ast.Node) bool {
			if id, isIdent := n.(*ast.Ident); isIdent {
				if used, isFunc := s.info.Uses[id].(*types.Func); isFunc {
					maps.Copy(reached, s.reachable(used))
				}
			}
			return true
		})
		return true
	}
	for f := range s.reachable(maker) {
		ast.Inspect(s.body[f], find)
	}
	if len(r.parts) != 2 {
		t.Fatalf("%s: %d parts of a driver were found, want Topology and Drive", maker.FullName(), len(r.parts))
	}
	for f := range reached {
		if !strings.HasPrefix(f.FullName(), "("+home+"/claim.") {
			r.parts = append(r.parts, s.body[f])
		}
	}
	for r.spread() {
	}
	for _, part := range r.parts {
		ast.Inspect(part, func(n ast.Node) bool { r.compare(n); return true })
	}
	return r
}

// spread follows values of axes one step on, and tells whether it came to anything new.
func (r reading) spread() (more bool) {
	give := func(to types.Object, e ast.Expr) {
		for axis := range r.axes(e) {
			if to == nil || r.holds[to][axis] {
				continue
			}
			if r.holds[to] == nil {
				r.holds[to] = map[string]bool{}
			}
			r.holds[to][axis], more = true, true
		}
	}
	for _, part := range r.parts {
		ast.Inspect(part, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				for i, to := range n.Lhs {
					if len(n.Lhs) == len(n.Rhs) {
						give(r.object(to), n.Rhs[i])
					}
				}
			case *ast.KeyValueExpr:
				give(r.object(n.Key), n.Value)
			case *ast.CallExpr:
				called, named := r.called(n)
				for i := 0; named && i < min(len(n.Args), called.Signature().Params().Len()); i++ {
					give(called.Signature().Params().At(i), n.Args[i])
				}
			case *ast.FuncDecl:
				ast.Inspect(n.Body, func(in ast.Node) bool {
					if result, isReturn := in.(*ast.ReturnStmt); isReturn && len(result.Results) == 1 {
						give(r.info.Defs[n.Name], result.Results[0])
					}
					return true
				})
			}
			return true
		})
	}
	return more
}

// object is the variable or field that an expression names.
func (r reading) object(e ast.Expr) types.Object {
	switch e := e.(type) {
	case *ast.Ident:
		if defined := r.info.Defs[e]; defined != nil {
			return defined
		}
		return r.info.Uses[e]
	case *ast.SelectorExpr:
		return r.info.Uses[e.Sel]
	}
	return nil
}

// axes are those whose value the expression may have.
func (r reading) axes(e ast.Expr) map[string]bool {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return r.axes(e.X)
	case *ast.Ident, *ast.SelectorExpr:
		return r.holds[r.object(e)]
	case *ast.CallExpr:
		if r.info.Types[e.Fun].IsType() { // a conversion
			return r.axes(e.Args[0])
		}
		called, named := r.called(e)
		if !named {
			return nil
		}
		if axis, reads := r.reads(e, called); reads {
			return map[string]bool{axis: true}
		}
		return r.holds[called.Origin()]
	}
	return nil
}

// reads tells which axis a call of a method of Cell reads.
func (r reading) reads(e *ast.CallExpr, called *types.Func) (axis string, reads bool) {
	name, isCell := strings.CutPrefix(called.FullName(), "("+home+"/claim.Cell).")
	if !isCell || !slices.Contains([]string{"Value", "Number", "Is", "Either"}, name) {
		return "", false
	}
	return r.text(e.Args[0])
}

// text is the value of a constant text.
func (r reading) text(e ast.Expr) (string, bool) {
	if v := r.info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v), true
	}
	return "", false
}

// compare notes what is read, and with what it is compared.
func (r reading) compare(n ast.Node) {
	tell := func(axes map[string]bool, values ...ast.Expr) {
		for axis := range axes {
			for _, e := range values {
				v, isText := r.text(e)
				if isText && r.told[axis] == nil {
					r.told[axis] = map[string]bool{}
				}
				if isText {
					r.told[axis][v] = true
				}
			}
		}
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		called, named := r.called(n)
		if !named {
			return
		}
		axis, reads := r.reads(n, called)
		if !reads {
			return
		}
		r.read[axis] = true
		if len(n.Args) > 1 {
			tell(map[string]bool{axis: true}, n.Args[1:]...)
		}
	case *ast.BinaryExpr:
		if n.Op == token.EQL || n.Op == token.NEQ {
			tell(r.axes(n.X), n.Y)
			tell(r.axes(n.Y), n.X)
		}
	case *ast.SwitchStmt:
		for _, in := range n.Body.List {
			if c, isCase := in.(*ast.CaseClause); isCase && n.Tag != nil {
				tell(r.axes(n.Tag), c.List...)
			}
		}
	case *ast.IndexExpr:
		table, isLit := n.X.(*ast.CompositeLit)
		if !isLit {
			table = r.tables[r.object(n.X)]
		}
		if table != nil {
			for _, in := range table.Elts {
				if e, hasKey := in.(*ast.KeyValueExpr); hasKey {
					tell(r.axes(n.Index), e.Key)
				}
			}
		}
	}
}
