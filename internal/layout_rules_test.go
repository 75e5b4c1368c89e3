package internal_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A source is one parsed file.
type source struct {
	path  string // from the root of the module: internal/fault/fault.go
	dir   string // internal/fault
	lines int
	file  *ast.File
}

// A tree is all sources that are checked together.
type tree struct {
	files   *token.FileSet
	sources []source
}

// A rule returns a line for each breach that it finds, which names the place and says what to do.
type rule struct {
	name  string
	check func(tree) []string
}

var rules = []rule{
	{"every package is on the floor plan", checkPlaces},
	{"imports go down", checkImports},
	{"libraries have an owner", checkLibraries},
	{"packages say what they are", checkPackageComments},
	{"names say what is inside", checkNames},
	{"functions are short", checkFunctionSizes},
	{"files and packages are small", checkFileSizes},
	{"parameters are few and speak", checkParameters},
	{"no init", checkInit},
	{"package variables do not change", checkVariables},
	{"nobody sleeps", checkSleep},
	{"contexts come from the caller", checkContexts},
}

func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }

// isProduct says whether the file ends up in the binary.
func (s source) isProduct() bool {
	return !s.isTest() && !isTestSupport(s.dir) && (strings.HasPrefix(s.dir, "internal/") || strings.HasPrefix(s.dir, "cmd/"))
}

// isTable says whether the file is data and nothing else.
func (s source) isTable() bool {
	hasData := false
	for _, declaration := range s.file.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			return false
		}
		hasData = hasData || general.Tok == token.VAR
	}
	return hasData
}

// isTestSupport recognises packages that serve tests only: store/storetest is for tests of store, test/ for all.
func isTestSupport(dir string) bool {
	return path.Base(dir) == path.Base(path.Dir(dir))+"test" || strings.HasPrefix(dir, "test/")
}

// home is the package of the floor plan that a folder belongs to: the folder itself or one above it.
func home(dir string) (string, bool) {
	for d := dir; d != "."; d = path.Dir(d) {
		if _, ok := places[d]; ok {
			return d, true
		}
	}
	return "", false
}

// imports yields the import paths of a file, each with its position.
func (t tree) imports(s source, yield func(position, importPath string)) {
	for _, spec := range s.file.Imports {
		importPath, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			yield(t.at(spec), importPath)
		}
	}
}

func (t tree) at(node ast.Node) string {
	position := t.files.Position(node.Pos())
	return fmt.Sprintf("%s:%d", position.Filename, position.Line)
}

// packages groups the sources by folder, in order.
func (t tree) packages(yield func(dir string, sources []source)) {
	byDir := map[string][]source{}
	var dirs []string
	for _, s := range t.sources {
		if byDir[s.dir] == nil {
			dirs = append(dirs, s.dir)
		}
		byDir[s.dir] = append(byDir[s.dir], s)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		yield(dir, byDir[dir])
	}
}

func checkPlaces(t tree) (breaches []string) {
	t.packages(func(dir string, _ []source) {
		if !strings.HasPrefix(dir, "internal/") && !strings.HasPrefix(dir, "cmd/") {
			return
		}
		if _, ok := home(dir); !ok {
			breaches = append(breaches, dir+" has no place: give it a floor in layout_test.go and a line in ARCHITECTURE.md")
		}
	})
	return breaches
}

func checkImports(t tree) (breaches []string) {
	for _, s := range t.sources {
		t.imports(s, func(position, importPath string) {
			target, ours := strings.CutPrefix(importPath, module+"/")
			if !ours {
				return
			}
			if reason := forbidden(s, target); reason != "" {
				breaches = append(breaches, fmt.Sprintf("%s: %s may not import %s: %s", position, s.dir, target, reason))
			}
		})
	}
	return breaches
}

// forbidden says why a file may not import a package of ours, or nothing.
func forbidden(s source, target string) string {
	if isTestSupport(target) && !s.isTest() && !isTestSupport(s.dir) {
		return "it is for tests"
	}
	from, inside := home(s.dir)
	to, known := home(target)
	switch {
	case !inside && known && !isTestSupport(s.dir):
		return "the product is measured from outside"
	case !inside || isTestSupport(target) && !known:
		return ""
	case !known:
		return "the product does not lean on what is outside of it"
	case from == to:
		return ""
	}
	above, below := places[from], places[to]
	switch {
	case below.floor >= above.floor:
		return fmt.Sprintf("floor %d is not below floor %d", below.floor, above.floor)
	case above.plane != bothPlanes && below.plane != bothPlanes && above.plane != below.plane:
		return fmt.Sprintf("the %s plane does not know the %s plane", above.plane, below.plane)
	case above.floor > 8 && to != "internal/cli":
		return "main only hands over to cli"
	}
	return ""
}

func checkLibraries(t tree) (breaches []string) {
	for _, s := range t.sources {
		if !s.isProduct() {
			continue
		}
		owner, _ := home(s.dir)
		t.imports(s, func(position, importPath string) {
			host, _, _ := strings.Cut(importPath, "/")
			if host == module || !strings.Contains(host, ".") {
				return // ours, or the standard library
			}
			if library, ok := libraryOf(importPath); ok && slices.Contains(libraries[library], owner) {
				return
			}
			breaches = append(breaches, fmt.Sprintf("%s: %s is not a library of %s in layout_test.go", position, importPath, owner))
		})
	}
	return breaches
}

// libraryOf returns the row of libraries that an import belongs to.
func libraryOf(importPath string) (string, bool) {
	for library := range libraries {
		if importPath == library || strings.HasPrefix(importPath, library+"/") {
			return library, true
		}
	}
	return "", false
}

func checkPackageComments(t tree) (breaches []string) {
	t.packages(func(dir string, sources []source) {
		documented := slices.ContainsFunc(sources, func(s source) bool {
			return strings.TrimSpace(s.file.Doc.Text()) != ""
		})
		if !documented {
			breaches = append(breaches, dir+" has no package comment: say what it is for")
		}
	})
	return breaches
}

func checkNames(t tree) (breaches []string) {
	t.packages(func(dir string, sources []source) {
		for _, name := range []string{path.Base(dir), strings.TrimSuffix(sources[0].file.Name.Name, "_test")} {
			if slices.Contains(bannedNames, name) {
				breaches = append(breaches, fmt.Sprintf("%s: package %q says nothing: name what it holds", dir, name))
				break
			}
		}
		for _, s := range sources {
			stem := strings.TrimSuffix(strings.TrimSuffix(path.Base(s.path), ".go"), "_test")
			if slices.Contains(bannedNames, stem) {
				breaches = append(breaches, fmt.Sprintf("%s: the file name says nothing: name what it holds", s.path))
			}
		}
	})
	return breaches
}

// functions yields every function of the product with its length in lines.
func (t tree) functions(yield func(f *ast.FuncDecl, lines int)) {
	for _, s := range t.sources {
		if !s.isProduct() || ast.IsGenerated(s.file) {
			continue
		}
		for _, declaration := range s.file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok {
				yield(f, t.files.Position(f.End()).Line-t.files.Position(f.Pos()).Line+1)
			}
		}
	}
}

func checkFunctionSizes(t tree) (breaches []string) {
	type length struct {
		lines int
		where string
	}
	var lengths []length
	t.functions(func(f *ast.FuncDecl, lines int) {
		lengths = append(lengths, length{lines, t.at(f) + ": " + f.Name.Name})
	})
	if len(lengths) == 0 {
		return nil
	}
	slices.SortFunc(lengths, func(a, b length) int { return cmp.Compare(a.lines, b.lines) })
	for _, l := range lengths {
		if l.lines > maxFunction {
			breaches = append(breaches, fmt.Sprintf("%s has %d lines, more than %d", l.where, l.lines, maxFunction))
		}
	}
	if p95 := lengths[(len(lengths)-1)*95/100]; p95.lines > p95Function {
		breaches = append(breaches, fmt.Sprintf("one function in twenty has %d lines or more, the bar is %d; one of them: %s",
			p95.lines, p95Function, p95.where))
	}
	return breaches
}

func checkFileSizes(t tree) (breaches []string) {
	t.packages(func(dir string, sources []source) {
		total := 0
		for _, s := range sources {
			if !s.isProduct() || s.isTable() || ast.IsGenerated(s.file) {
				continue
			}
			total += s.lines
			if s.lines > maxFile {
				breaches = append(breaches, fmt.Sprintf("%s has %d lines, more than %d", s.path, s.lines, maxFile))
			}
		}
		if total > maxPackage {
			breaches = append(breaches, fmt.Sprintf("%s has %d lines, more than %d", dir, total, maxPackage))
		}
	})
	return breaches
}

func checkParameters(t tree) (breaches []string) {
	t.functions(func(f *ast.FuncDecl, _ int) {
		count := 0
		for _, field := range f.Type.Params.List {
			count += max(1, len(field.Names))
			if kind, ok := field.Type.(*ast.Ident); ok && kind.Name == "bool" && f.Name.IsExported() {
				breaches = append(breaches, fmt.Sprintf("%s: %s has a bool parameter: make it two functions, or a named type",
					t.at(f), f.Name.Name))
			}
		}
		if count > maxParameters {
			breaches = append(breaches, fmt.Sprintf("%s: %s has %d parameters, more than %d", t.at(f), f.Name.Name, count, maxParameters))
		}
	})
	return breaches
}

func checkInit(t tree) (breaches []string) {
	for _, s := range t.sources {
		for _, declaration := range s.file.Decls {
			if f, ok := declaration.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				breaches = append(breaches, t.at(f)+": init hides what happens: let a constructor do it")
			}
		}
	}
	return breaches
}

// checkSleep leaves time.Sleep to the bodies of synctest bubbles, where it costs nothing and waits for the right moment.
func checkSleep(t tree) (breaches []string) {
	for _, s := range t.sources {
		if strings.HasPrefix(s.dir, "bench/") {
			continue // it measures time, and plays providers that take theirs
		}
		var bubbles []ast.Node
		s.calls("testing/synctest", func(name string, call *ast.CallExpr) {
			if name == "Test" {
				bubbles = append(bubbles, call)
			}
		})
		s.calls("time", func(name string, call *ast.CallExpr) {
			inBubble := slices.ContainsFunc(bubbles, func(b ast.Node) bool { return b.Pos() <= call.Pos() && call.End() <= b.End() })
			if name == "Sleep" && !inBubble {
				breaches = append(breaches, t.at(call)+": do not sleep: wait for what you wait for (channel, timer, synctest)")
			}
		})
	}
	return breaches
}

func checkContexts(t tree) (breaches []string) {
	for _, s := range t.sources {
		if at, ok := home(s.dir); !ok || s.isTest() || places[at].floor >= contextFloor {
			continue
		}
		s.calls("context", func(name string, call *ast.CallExpr) {
			if name == "Background" || name == "TODO" {
				breaches = append(breaches, fmt.Sprintf("%s: context.%s below app: take the caller's context", t.at(call), name))
			}
		})
	}
	return breaches
}

// calls yields the calls of functions of one imported package, whatever name it is imported by.
func (s source) calls(importPath string, yield func(name string, call *ast.CallExpr)) {
	local := ""
	for _, spec := range s.file.Imports {
		if spec.Path.Value == strconv.Quote(importPath) {
			local = path.Base(importPath)
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(s.file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if qualifier, ok := selector.X.(*ast.Ident); ok && qualifier.Name == local {
			yield(selector.Sel.Name, call)
		}
		return true
	})
}
