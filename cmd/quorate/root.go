package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/quorate/quorate/internal/config"
)

// newRootCommand builds the whole tree of commands.
func newRootCommand() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "quorate",
		Short: "A transaction coordinator that survives its own nodes",
		Long: `Quorate decides transactions that span several services and databases: everywhere or nowhere. Three or five
nodes replicate the decision log through Raft, so a decision outlives any minority of them.

Start here:  quorate demo    money moves between two banks while the leader is killed
             quorate dev     a three-node cluster on this machine

Exit codes:  0 ok · 1 error · 2 usage · 3 not found · 4 unreachable, no leader or timeout · 5 unhealthy ·
             6 rejected by the transaction's state · 7 denied`,
		SilenceErrors: true,
		SilenceUsage:  true,
	})
	root.CompletionOptions.DisableDefaultCmd = true // newCompletionCommand is ours
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		newServeCommand(),
		newDevCommand(),
		newDemoCommand(),
		newDemoBankCommand(),
		newBranchBankCommand(),
		newBenchCommand(),
		newFloorCommand(),
		newChaosCommand(),
		newConfigCommand(),
		newTxCommand(),
		newTopicCommand(),
		newClusterCommand(),
		newFenceCommand(),
		newVerifyCommand(),
		newVersionCommand(),
		newCompletionCommand(),
	)
	root.AddCommand(newBankCommands()...)
	return root
}

// group makes cmd a mere parent: without a subcommand it shows its help, and a
// word that is none is an error with a suggestion.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		var names []string
		for _, sub := range cmd.Commands() {
			if !sub.Hidden {
				names = append(names, sub.Name())
			}
		}
		hint := ""
		if near := config.Closest(args[0], names); near != "" {
			hint = fmt.Sprintf("; did you mean `%s %s`?", cmd.CommandPath(), near)
		}
		return usageError(cmd, "there is no command %q%s", args[0], hint)
	}
	return cmd
}

// flagError explains a flag that could not be parsed.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return usageError(cmd, "%v", err)
	}
	name := unknown.GetSpecifiedName()
	if len(name) < 2 {
		return usageError(cmd, "unknown flag -%s", name)
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	hint := ""
	if near := config.Closest(name, names); near != "" {
		hint = "; did you mean --" + near + "?"
	}
	return usageError(cmd, "unknown flag --%s%s", name, hint)
}

// exactArgs wants one argument a name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError(cmd, "%s is missing", strings.Join(names[len(args):], " "))
		case len(args) > len(names):
			return usageError(cmd, "unexpected argument %q", args[len(names)])
		}
		return nil
	}
}

// noArgs wants none.
func noArgs(cmd *cobra.Command, args []string) error { return exactArgs()(cmd, args) }
