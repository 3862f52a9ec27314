package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/internal/config"
)

// newConfigCommand is `quorate config`.
func newConfigCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "config",
		Short: "Show and check the settings of a node",
		Long: `A setting has three spellings: listen.grpc in the YAML file, --listen-grpc, QUORATE_LISTEN_GRPC. Flags win over the
environment, the environment over the file, the file over the default. A name that is none is an error.`,
	})
	cmd.AddCommand(newConfigShowCommand(), newConfigCheckCommand())
	return cmd
}

// shownSetting is one line of `config show`.
type shownSetting struct {
	Key     string `json:"key"`
	Value   string `json:"value"`
	Source  string `json:"source"`
	Default string `json:"default"`
	Unit    string `json:"unit"`
	Flag    string `json:"flag,omitempty"`
	Env     string `json:"env,omitempty"`
	Help    string `json:"help"`
}

// newConfigShowCommand is `quorate config show`.
func newConfigShowCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show every setting and constant: value, where it came from, default, unit",
		Long: `show reads the settings as serve would, from the same flags, environment and file, and shows where each came from.
After them come the constants. Those whose source is "replicated" are limits of the whole cluster, shown as a new
cluster has them; a running one's are at /v1/cluster/limits.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags(), os.Environ())
			if err != nil {
				return withCode(exitUsage, err)
			}
			settings := append(shownSettings(loaded), constants(loaded.Raft.Profile)...)
			switch output {
			case "json", "yaml":
				text, err := json.Marshal(settings)
				if err != nil {
					return err
				}
				return printJSON(cmd.OutOrStdout(), output, text)
			case "table", "wide":
				return writeSettings(cmd, settings, output == "wide")
			}
			return usageError(cmd, "-o %s: allowed are table, wide, json, yaml", output)
		},
	}
	config.AddFlags(cmd.Flags())
	cmd.Flags().StringVarP(&output, "output", "o", "table", "what is printed: table, wide, json, yaml")
	return cmd
}

func shownSettings(loaded config.Loaded) []shownSetting {
	defaults := config.Default()
	var shown []shownSetting
	for _, s := range config.Settings() {
		shown = append(shown, shownSetting{
			Key: s.Key, Value: s.Text(&loaded.Config), Source: loaded.Origins[s.Key], Default: s.Text(&defaults),
			Unit: s.Unit, Flag: "--" + s.Flag, Env: s.Env(), Help: s.Help,
		})
	}
	return shown
}

func writeSettings(cmd *cobra.Command, settings []shownSetting, wide bool) error {
	var t table
	head := []string{"SETTING", "VALUE", "SOURCE", "DEFAULT", "UNIT"}
	if wide {
		head = append(head, "ENV", "MEANING")
	}
	t.row(head...)
	for _, s := range settings {
		cells := []string{s.Key, orNone(s.Value), s.Source, orNone(s.Default), s.Unit}
		if wide {
			cells = append(cells, orNone(s.Env), s.Help)
		}
		t.row(cells...)
	}
	return t.write(cmd.OutOrStdout())
}

// newConfigCheckCommand is `quorate config check`.
func newConfigCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the settings as serve would, and start nothing",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			loaded, err := config.Load(cmd.Flags(), os.Environ())
			if err == nil {
				err = config.Validate(&loaded.Config)
			}
			if err == nil {
				_, err = loadTLS(&loaded.Config, nil)
			}
			if err != nil {
				return withCode(exitUsage, err)
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "the settings are good")
			return err
		},
	}
	config.AddFlags(cmd.Flags())
	return cmd
}
