package internal_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path"
)

// checkVariables finds package variables that are written to, or that are made for it. To tell them from local ones
// each package is type-checked, with everything that it imports left blank.
func checkVariables(t tree) (breaches []string) {
	t.packages(func(dir string, sources []source) {
		var files []*ast.File
		for _, s := range sources {
			if s.isProduct() {
				files = append(files, s.file)
			}
		}
		objects := types.Info{Uses: map[*ast.Ident]types.Object{}}
		// What the blanks lead to are errors, which say nothing about the package's own variables.
		config := types.Config{Importer: blankImporter{}, Error: func(error) {}}
		checked, _ := config.Check(dir, t.files, files, &objects)

		report := func(name *ast.Ident) {
			breaches = append(breaches, fmt.Sprintf("%s: the package variable %s changes: make it a field", t.at(name), name.Name))
		}
		for _, file := range files {
			for _, name := range writtenNames(file) {
				if object, ok := objects.Uses[name].(*types.Var); ok && object.Parent() == checked.Scope() {
					report(name)
				}
			}
			for _, name := range synchronizedVariables(file) {
				report(name)
			}
		}
	})
	return breaches
}

// blankImporter knows every package and nothing about it.
type blankImporter struct{}

func (blankImporter) Import(importPath string) (*types.Package, error) {
	blank := types.NewPackage(importPath, path.Base(importPath))
	blank.MarkComplete()
	return blank, nil
}

// writtenNames returns the variable that each assignment, increment, delete and clear of a file begins with:
// x for x = 1, x.f = 1, x[i]++ and delete(x, k).
func writtenNames(file *ast.File) (names []*ast.Ident) {
	written := func(expressions ...ast.Expr) {
		for _, expression := range expressions {
			if name := firstName(expression); name != nil {
				names = append(names, name)
			}
		}
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch n := node.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				written(n.Lhs...)
			}
		case *ast.IncDecStmt:
			written(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				written(n.Key, n.Value)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && (f.Name == "delete" || f.Name == "clear") && len(n.Args) > 0 {
				written(n.Args[0])
			}
		}
		return true
	})
	return names
}

func firstName(expression ast.Expr) *ast.Ident {
	switch e := expression.(type) {
	case *ast.Ident:
		return e
	case *ast.ParenExpr:
		return firstName(e.X)
	case *ast.SelectorExpr:
		return firstName(e.X)
	case *ast.IndexExpr:
		return firstName(e.X)
	case *ast.StarExpr:
		return firstName(e.X)
	}
	return nil
}

// synchronizedVariables returns the package variables of a type that exists to be changed: a lock, an atomic, a
// sync.Map or sync.Once. A sync.Pool is none: what it holds makes no difference to anybody.
func synchronizedVariables(file *ast.File) (names []*ast.Ident) {
	for _, declaration := range file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok || general.Tok != token.VAR {
			continue
		}
		for _, spec := range general.Specs {
			variable, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			if isSynchronized(variable.Type) || len(variable.Values) > 0 && isSynchronized(variable.Values[0]) {
				names = append(names, variable.Names...)
			}
		}
	}
	return names
}

// isSynchronized looks at a type, or at the type of a composite literal.
func isSynchronized(expression ast.Expr) bool {
	switch e := expression.(type) {
	case *ast.StarExpr:
		return isSynchronized(e.X)
	case *ast.UnaryExpr:
		return isSynchronized(e.X)
	case *ast.CompositeLit:
		return isSynchronized(e.Type)
	case *ast.IndexExpr: // atomic.Pointer[T]
		return isSynchronized(e.X)
	case *ast.SelectorExpr:
		qualifier, ok := e.X.(*ast.Ident)
		if !ok {
			return false
		}
		return qualifier.Name == "atomic" || qualifier.Name == "sync" && e.Sel.Name != "Pool"
	}
	return false
}
