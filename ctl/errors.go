package ctl

import "holdfast/ctl/exit"

// How commands end, by the names they have here: each stands in many lines.
const (
	exitError         = exit.Failed
	exitBadConnection = exit.BadConnection
	exitInvalidInput  = exit.InvalidInput
	exitBadFeature    = exit.BadFeature
	exitInterrupted   = exit.Interrupted
	exitIO            = exit.IO
	exitBadArgs       = exit.BadArgs
)

// failure is an error with the exit code it ends the program with.
type failure = exit.Failure

// fail gives err its exit code, unless it has one; nil stays nil.
func fail(code int, err error) error { return exit.With(code, err) }

// said gives err its exit code where the command has told what went wrong itself; nil stays nil.
func said(code int, err error) error { return exit.Said(code, err) }

// badArgs is a mistake in what was typed.
func badArgs(format string, args ...any) error { return exit.Misuse(format, args...) }
