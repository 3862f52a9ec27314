package main

import (
	"go/ast"
	"go/token"
	"go/types"
	"strconv"
	"strings"
)

// kinds are the slips that are planted, each of which a reader of a change might
// pass over.
var kinds = map[string]string{
	"negated":   "a condition says the opposite",
	"half":      "one side of && or || is missing",
	"logic":     "&& for ||, or the reverse",
	"bound":     "< for <=, > for >=, or the reverse",
	"compared":  "== for !=, or the reverse, where it is no condition of its own",
	"sum":       "+ for -, or the reverse",
	"constant":  "a number one higher, true for false",
	"extreme":   "max for min, or the reverse",
	"dropped":   "a statement is missing",
	"ignored":   "nothing is done about an error",
	"else":      "the other branch is missing",
	"flow":      "break for continue, or the reverse",
	"left out":  "a field of a composite literal is missing",
	"exchanged": "two arguments of the same type stand in each other's place",
}

// finder walks one file.
type finder struct {
	*source
	file     string
	function string
	whole    map[ast.Expr]bool // conditions, which are negated as they stand
	found    []mutant
}

func (f *finder) offset(p token.Pos) int { return f.fset.Position(p).Offset }

// plant adds the mutant in which the text from..to is replaced. Lines stay where
// they are.
func (f *finder) plant(kind string, from, to token.Pos, with string) {
	text := string(f.text[f.file][f.offset(from):f.offset(to)])
	if missing := strings.Count(text, "\n") - strings.Count(with, "\n"); missing > 0 {
		with += strings.Repeat("\n", missing)
	}
	f.found = append(f.found, mutant{
		file: f.file, line: f.fset.Position(from).Line, function: f.function, kind: kind,
		text: text, from: f.offset(from), to: f.offset(to), with: with,
	})
}

func (f *finder) textOf(n ast.Node) string {
	return string(f.text[f.file][f.offset(n.Pos()):f.offset(n.End())])
}

func (f *finder) findIn(file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			f.function = d.Name.Name
			if d.Name.Name == "String" || d.Name.Name == "Error" || d.Body == nil {
				continue // words
			}
			if d.Recv != nil {
				f.function = strings.TrimPrefix(types.ExprString(d.Recv.List[0].Type), "*") + "." + f.function
			}
			ast.Inspect(d.Body, f.visit)
		case *ast.GenDecl:
			f.function = "-"
			if d.Tok == token.VAR || d.Tok == token.CONST {
				ast.Inspect(d, f.visit)
			}
		}
	}
}

func (f *finder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		if f.unheard(n) {
			return false
		}
		f.call(n)
	case *ast.IfStmt:
		if f.onlyWords([]ast.Stmt{n}) {
			return false
		}
		f.condition(n)
	case *ast.ForStmt:
		f.negate(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag == nil {
			for _, clause := range n.Body.List {
				for _, cond := range clause.(*ast.CaseClause).List {
					f.negate(cond)
				}
			}
		}
	case *ast.BlockStmt:
		f.statements(n.List)
	case *ast.CaseClause:
		f.statements(n.Body)
	case *ast.CommClause:
		f.statements(n.Body)
	case *ast.BinaryExpr:
		if n.Op == token.MUL {
			return false // 5 * time.Second
		}
		f.binary(n)
	case *ast.BasicLit, *ast.Ident:
		f.constant(n.(ast.Expr))
	case *ast.BranchStmt:
		if other := map[token.Token]string{token.BREAK: "continue", token.CONTINUE: "break"}[n.Tok]; other != "" {
			f.plant("flow", n.TokPos, n.TokPos+token.Pos(len(n.Tok.String())), other)
		}
	case *ast.CompositeLit:
		f.literal(n)
	}
	return true
}

// negate makes a condition say the opposite.
func (f *finder) negate(cond ast.Expr) {
	if cond != nil {
		f.whole[cond] = true
		f.plant("negated", cond.Pos(), cond.End(), "!("+f.textOf(cond)+")")
	}
}

func (f *finder) condition(n *ast.IfStmt) {
	f.negate(n.Cond)
	if b, ok := n.Cond.(*ast.BinaryExpr); ok && b.Op == token.NEQ && f.isError(b.X) && !f.onlyWords(n.Body.List) {
		f.plant("ignored", n.Body.Lbrace+1, n.Body.Rbrace, "")
	}
	if n.Else != nil {
		f.plant("else", n.Body.Rbrace+1, n.Else.End(), "")
	}
}

func (f *finder) isError(e ast.Expr) bool {
	t := f.info.TypeOf(e)
	return t != nil && types.Identical(t, types.Universe.Lookup("error").Type())
}

// statements drops each statement that may be missing. Declarations may not, and
// what only writes a log line is no behaviour.
func (f *finder) statements(list []ast.Stmt) {
	for _, statement := range list {
		if f.onlyWords([]ast.Stmt{statement}) {
			continue
		}
		switch s := statement.(type) {
		case *ast.DeferStmt:
			if f.unheard(s.Call) {
				continue
			}
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.ExprStmt, *ast.IncDecStmt, *ast.BranchStmt, *ast.GoStmt, *ast.SendStmt, *ast.IfStmt, *ast.RangeStmt, *ast.ForStmt, *ast.ReturnStmt:
		default:
			continue
		}
		f.plant("dropped", statement.Pos(), statement.End(), "")
	}
}

// onlyWords says that statements write log lines and do nothing else.
func (f *finder) onlyWords(list []ast.Stmt) bool {
	for _, statement := range list {
		switch s := statement.(type) {
		case *ast.ExprStmt:
			if call, ok := s.X.(*ast.CallExpr); !ok || !f.unheard(call) {
				return false
			}
		case *ast.IfStmt:
			if s.Init != nil || s.Else != nil || !f.onlyWords(s.Body.List) {
				return false
			}
		default:
			return false
		}
	}
	return true
}

// others are what an operator is taken for, and what the slip is called.
var others = map[token.Token]struct{ kind, with string }{
	token.LAND: {"logic", "||"}, token.LOR: {"logic", "&&"},
	token.LSS: {"bound", "<="}, token.LEQ: {"bound", "<"}, token.GTR: {"bound", ">="}, token.GEQ: {"bound", ">"},
	token.EQL: {"compared", "!="}, token.NEQ: {"compared", "=="},
	token.ADD: {"sum", "-"}, token.SUB: {"sum", "+"},
}

func (f *finder) binary(n *ast.BinaryExpr) {
	other, ok := others[n.Op]
	if !ok || other.kind == "compared" && f.whole[n] {
		return
	}
	f.plant(other.kind, n.Pos(), n.End(),
		string(f.text[f.file][f.offset(n.Pos()):f.offset(n.OpPos)])+other.with+
			string(f.text[f.file][f.offset(n.OpPos)+len(n.Op.String()):f.offset(n.End())]))
	if other.kind == "logic" {
		f.plant("half", n.Pos(), n.End(), f.textOf(n.X))
		f.plant("half", n.Pos(), n.End(), f.textOf(n.Y))
	}
}

// constant changes small numbers, which count something. Large ones are sizes and
// patience, of which one more is as good.
func (f *finder) constant(e ast.Expr) {
	const large = 8
	switch e := e.(type) {
	case *ast.BasicLit:
		if n, err := strconv.ParseInt(e.Value, 0, 62); e.Kind == token.INT && err == nil && n < large {
			f.plant("constant", e.Pos(), e.End(), strconv.FormatInt(n+1, 10))
		}
	case *ast.Ident:
		if other := map[string]string{"true": "false", "false": "true"}[e.Name]; other != "" {
			f.plant("constant", e.Pos(), e.End(), other)
		}
	}
}

func (f *finder) call(n *ast.CallExpr) {
	if fun, ok := n.Fun.(*ast.Ident); ok {
		if other := map[string]string{"max": "min", "min": "max"}[fun.Name]; other != "" {
			f.plant("extreme", fun.Pos(), fun.End(), other)
			return
		}
	}
	if fun, ok := n.Fun.(*ast.SelectorExpr); ok && fun.Sel.Name == "Equal" {
		return // either way round
	}
	for i := 1; i < len(n.Args); i++ {
		a, b := n.Args[i-1], n.Args[i]
		ta, tb := f.info.TypeOf(a), f.info.TypeOf(b)
		if ta == nil || tb == nil || !types.Identical(ta, tb) || f.textOf(a) == f.textOf(b) {
			continue
		}
		between := string(f.text[f.file][f.offset(a.End()):f.offset(b.Pos())])
		f.plant("exchanged", a.Pos(), b.End(), f.textOf(b)+between+f.textOf(a))
	}
}

// literal leaves out each named field. A message's words are no behaviour.
func (f *finder) literal(n *ast.CompositeLit) {
	for i, e := range n.Elts {
		field, ok := e.(*ast.KeyValueExpr)
		if !ok {
			continue
		}
		if _, ok := field.Key.(*ast.Ident); !ok {
			continue
		}
		to := field.End()
		if i+1 < len(n.Elts) {
			// With its comma, and the line's end if it is the last of its line.
			to = n.Elts[i+1].Pos()
		} else if rest := string(f.text[f.file][f.offset(to):f.offset(n.Rbrace)]); strings.HasPrefix(strings.TrimSpace(rest), ",") {
			to += token.Pos(strings.Index(rest, ",") + 1)
		}
		f.plant("left out", field.Pos(), to, "")
	}
}
