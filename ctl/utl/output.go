package utl

import (
	"errors"

	"github.com/spf13/cobra"

	"holdfast/ctl/exit"
	"holdfast/ctl/output"
)

// show runs find and prints what it found. A format that does not exist is refused before the work begins, as in etcd's tool.
func (t *tool) show(cmd *cobra.Command, find func() (output.Report, error)) error {
	p, err := t.printer(cmd)
	if err != nil {
		return err
	}
	r, err := find()
	if err != nil {
		return err
	}
	return refusal(p.Print(output.Reported(r)))
}

// showDone is show for a command that changes something: a format without a form for what it has done is refused before, too.
func (t *tool) showDone(cmd *cobra.Command, do func() (output.Report, error)) error {
	if t.format == "protobuf" {
		return refusal(output.ErrNoProtobuf)
	}
	return t.show(cmd, do)
}

func (t *tool) printer(cmd *cobra.Command) (*output.Printer, error) {
	p, err := output.New(t.format, false, cmd.OutOrStdout(), cmd.ErrOrStderr())
	return p, refusal(err)
}

// refusal gives a format that cannot be had its exit code.
func refusal(err error) error {
	if errors.Is(err, output.ErrUnsupported) {
		return exit.With(exit.BadFeature, err)
	}
	return err
}
