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

// compiler checks changed packages against what the go command has built of
// their imports. It finds what the compiler would, in a tenth of a second a
// bug, which is what lets every `make test` check all of them.
type compiler struct {
	root    string
	exports map[string]string   // import path -> export data
	sources map[string][]string // directory from the root -> its Go files
	paths   map[string]string   // directory from the root -> import path
}

// listed is what `go list -json` says of a package.
type listed struct {
	ImportPath, Dir, Export string
	GoFiles, CgoFiles       []string
	Standard                bool
}

// newCompiler builds the module's packages once, from the go command's cache
// where it can.
func newCompiler(root string) (*compiler, error) {
	cmd := exec.Command("go", "list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles,CgoFiles,Standard", "./...")
	cmd.Dir, cmd.Stderr = root, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	c := &compiler{root: root, exports: make(map[string]string), sources: make(map[string][]string), paths: make(map[string]string)}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return c, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		c.exports[p.ImportPath] = p.Export
		if rel, err := filepath.Rel(root, p.Dir); err == nil && !p.Standard && !strings.HasPrefix(rel, "..") {
			c.paths[rel], c.sources[rel] = p.ImportPath, p.GoFiles
		}
	}
}

// check says whether the packages that the bug touches would compile.
func (c *compiler) check(b *bug) error {
	changed, err := b.apply(c.root)
	if err != nil {
		return err
	}
	for _, dir := range b.packages() {
		if err := c.checkPackage(filepath.Clean(dir), changed); err != nil {
			return fmt.Errorf("%s does not compile: %w", b.Name, err)
		}
	}
	return nil
}

func (c *compiler) checkPackage(dir string, changed map[string][]byte) error {
	fset := token.NewFileSet()
	var parsed []*ast.File
	for _, name := range c.sources[dir] {
		var source any // nil: from the disk
		if content, ok := changed[filepath.ToSlash(filepath.Join(dir, name))]; ok {
			source = content
		}
		f, err := parser.ParseFile(fset, filepath.Join(c.root, dir, name), source, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		parsed = append(parsed, f)
	}
	if len(parsed) == 0 {
		return fmt.Errorf("no package in %s", dir)
	}
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		export := c.exports[path]
		if export == "" {
			return nil, fmt.Errorf("no package %s among those built", path)
		}
		return os.Open(export)
	})}
	_, err := conf.Check(c.paths[dir], fset, parsed, nil)
	return err
}
