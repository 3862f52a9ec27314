package main

import (
	"github.com/spf13/cobra"
)

// newCompletionCommand is `quorate completion`.
func newCompletionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a script that completes quorate's commands in a shell",
		Example: `  source <(quorate completion bash)
  quorate completion zsh > "${fpath[1]}/_quorate"`,
		Args:      exactArgs("SHELL"),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usageError(cmd, "%q is no shell that can be completed for: bash, zsh, fish, powershell", args[0])
		},
	}
}
