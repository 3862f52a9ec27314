package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version of this build; a release sets it by -ldflags "-X main.version=...".
var version = "0.1.0-dev"

// build is what a binary knows about itself.
type build struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"`
	Dirty   bool   `json:"dirty,omitempty"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func thisBuild() build {
	b := build{Version: version, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Dirty = s.Value == "true"
		}
	}
	return b
}

// newVersionCommand is `quorate version`.
func newVersionCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			switch output {
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			case "table":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "quorate %s %s (%s, %s/%s)\n", b.Version, shortCommit(b), b.Go, b.OS, b.Arch)
				return err
			}
			return usageError(cmd, "-o %s: version prints table or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what is printed: table or json")
	return cmd
}

// shortCommit is the commit as people say it.
func shortCommit(b build) string {
	commit := b.Commit
	switch {
	case commit == "":
		return "unknown commit"
	case len(commit) > 12:
		commit = commit[:12]
	}
	if b.Dirty {
		commit += "+changes"
	}
	return commit
}
