package utl

import (
	"fmt"

	"github.com/spf13/cobra"

	"holdfast/util/version"
)

func (t *tool) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Prints the version of etcdutl",
		Example: "  " + t.name() + " version",
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "etcdutl version: %s\nAPI version: %s\n", version.EtcdVersion, version.Short(version.EtcdVersion))
			return err
		}),
	}
}

func (t *tool) completion() *cobra.Command {
	name := t.name()
	return &cobra.Command{
		Use:   "completion [bash|zsh|fish|powershell]",
		Short: "Generate completion script",
		Long:  "Writes a script that lets a shell complete the commands and flags of etcdutl, the name that an installation links.",
		Example: "  source <(" + name + " completion bash)\n  " + name + " completion zsh > \"${fpath[1]}/_etcdutl\"\n  " +
			name + " completion fish > ~/.config/fish/completions/etcdutl.fish",
		DisableFlagsInUseLine: true,
		ValidArgs:             []string{"bash", "zsh", "fish", "powershell"},
		Args:                  cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			w, root := cmd.OutOrStdout(), Command(true)
			switch args[0] {
			case "bash":
				return root.GenBashCompletion(w)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			}
			return root.GenPowerShellCompletionWithDesc(w)
		}),
	}
}
