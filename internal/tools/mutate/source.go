package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is a package, parsed and with its types, which some of the bugs need:
// two arguments may be exchanged only where they are of one type.
type source struct {
	dir   string // as it was asked for
	path  string // its import path
	fset  *token.FileSet
	info  types.Info
	names []string // of the files, as the go command orders them
	files map[string]*ast.File
	text  map[string][]byte
	conf  types.Config
}

// load reads the package in dir. What it imports comes from the go command,
// built.
func load(dir string) (*source, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,DepOnly", ".")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w", dir, err)
	}
	s := &source{dir: filepath.Clean(dir), fset: token.NewFileSet(), files: make(map[string]*ast.File), text: make(map[string][]byte)}
	exports := make(map[string]string)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath, Export string
			GoFiles            []string
			DepOnly            bool
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			s.path, s.names = p.ImportPath, p.GoFiles
		}
	}
	s.conf.Importer = importer.ForCompiler(s.fset, "gc", func(path string) (io.ReadCloser, error) {
		if exports[path] == "" {
			return nil, fmt.Errorf("no package %s among those built", path)
		}
		return os.Open(exports[path])
	})
	return s, s.parse()
}

func (s *source) parse() error {
	var all []*ast.File
	for _, name := range s.names {
		text, err := os.ReadFile(filepath.Join(s.dir, name))
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(s.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		s.text[name], s.files[name] = text, file
		all = append(all, file)
	}
	s.info = types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object)}
	_, err := s.conf.Check(s.path, s.fset, all, &s.info)
	return err
}

// builds says whether the package would compile with the mutant in it. It
// finds what the compiler would, in a tenth of a second.
func (s *source) builds(m mutant) bool {
	var all []*ast.File
	for _, name := range s.names {
		file := s.files[name]
		if name == m.file {
			var err error
			if file, err = parser.ParseFile(s.fset, name, m.apply(s.text[name]), parser.SkipObjectResolution); err != nil {
				return false
			}
		}
		all = append(all, file)
	}
	_, err := s.conf.Check(s.path, s.fset, all, nil)
	return err == nil
}

// unheard says that what a call does is no behaviour of the package: it writes
// a log line, counts for a graph, words an error or a panic, or ends a lock,
// without which everything stands still and nothing is learned.
func (s *source) unheard(call *ast.CallExpr) bool {
	switch fun := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		return fun.Name == "panic"
	case *ast.SelectorExpr:
		switch fun.Sel.Name {
		case "Unlock", "RUnlock":
			return true
		}
		object := s.info.Uses[fun.Sel]
		if object == nil || object.Pkg() == nil {
			return false
		}
		switch path := object.Pkg().Path(); {
		case path == "log/slog", path == "errors" && object.Name() == "New", strings.Contains(path, "prometheus"):
			return true
		case path == "fmt":
			return !strings.HasPrefix(object.Name(), "Sscan")
		}
	}
	return false
}

// line is the line at which a mutant is, as it stands in the source.
func (s *source) line(m mutant) string {
	text := s.text[m.file]
	from := bytes.LastIndexByte(text[:m.from], '\n') + 1
	line, _, _ := bytes.Cut(text[from:], []byte("\n"))
	return short(string(line))
}
