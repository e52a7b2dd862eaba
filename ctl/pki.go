package ctl

import (
	"strings"

	"github.com/spf13/cobra"

	"holdfast/ctl/pki"
)

func (t *tool) pki() *cobra.Command { return t.adopt(pki.Command()) }

func (t *tool) checkTLS() *cobra.Command { return t.adopt(pki.CheckCommand()) }

// adopt makes a command of another package, and those below it, one of this tool: its errors get an exit code, its examples the
// name that the program was called by.
func (t *tool) adopt(c *cobra.Command) *cobra.Command {
	if do := c.RunE; do != nil {
		c.RunE = run(func(cmd *cobra.Command, args []string) error {
			if err := t.fromEnviron(cmd.Root().PersistentFlags()); err != nil {
				return err
			}
			return do(cmd, args)
		})
	}
	c.Example = strings.ReplaceAll(c.Example, "holdfast ctl", t.env.Program)
	for _, below := range c.Commands() {
		t.adopt(below)
	}
	return c
}
