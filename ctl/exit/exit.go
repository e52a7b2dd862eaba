// Package exit says with which code a tool ends, and why.
//
//	Shape    an error carries its code; one that carries none ends a tool with Failed
//	Source   etcd's tools 3.7.3: scripts ask for their codes
package exit

import (
	"errors"
	"fmt"
)

// The codes.
const (
	Failed        = 1   // the server or the command said no
	BadConnection = 2   // no client could be made, or a question about a lease failed
	InvalidInput  = 3   // what came from standard input
	BadFeature    = 4   // a flag that exists, with a value that does not
	Interrupted   = 5   // a watch that the server ended
	IO            = 6   // what was to be written could not be
	BadArgs       = 128 // arguments and flags
)

// Failure is an error with the code it ends the program with. Invariant: the error is not nil.
type Failure struct {
	code int
	err  error
	// Told says that standard error has it already.
	Told bool
}

func (f *Failure) Error() string { return f.err.Error() }
func (f *Failure) Unwrap() error { return f.err }

// With gives err its code, unless it has one; nil stays nil.
func With(code int, err error) error {
	var f *Failure
	if err == nil || errors.As(err, &f) {
		return err
	}
	return &Failure{code: code, err: err}
}

// Said gives err its code where the command has told what went wrong itself; nil stays nil.
func Said(code int, err error) error {
	if err == nil {
		return nil
	}
	return &Failure{code: code, err: err, Told: true}
}

// Misuse is a mistake in what was typed.
func Misuse(format string, args ...any) error {
	return &Failure{code: BadArgs, err: fmt.Errorf(format, args...)}
}

// Code is what the program ends with after err.
func Code(err error) int {
	var f *Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &f):
		return f.code
	default:
		return Failed
	}
}
