package ctl

import (
	"errors"
	"fmt"
)

// The exit codes of etcdctl. Scripts ask for them.
const (
	exitError         = 1   // the server or the command said no
	exitBadConnection = 2   // no client could be made, or a question about a lease failed
	exitInvalidInput  = 3   // what came from standard input
	exitBadFeature    = 4   // a flag that exists, with a value that does not
	exitInterrupted   = 5   // a watch that the server ended
	exitIO            = 6   // what was to be written could not be
	exitBadArgs       = 128 // arguments and flags
)

// failure is an error with the exit code it ends the program with. Invariant: err is not nil.
type failure struct {
	code int
	err  error
	told bool // standard error has it already
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail gives err its exit code, unless it has one; nil stays nil.
func fail(code int, err error) error {
	var f *failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	return &failure{code: code, err: err}
}

// said gives err its exit code where the command has told what went wrong itself; nil stays nil.
func said(code int, err error) error {
	if err == nil {
		return nil
	}
	return &failure{code: code, err: err, told: true}
}

// badArgs is a mistake in what was typed.
func badArgs(format string, args ...any) error {
	return &failure{code: exitBadArgs, err: fmt.Errorf(format, args...)}
}

// exitCode is what the program ends with after err.
func exitCode(err error) int {
	var f *failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.code
	default:
		return exitError
	}
}
