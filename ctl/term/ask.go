package term

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/term"
)

// ErrNobody says that there is nobody to answer.
var ErrNobody = errors.New("standard input is no terminal, so nobody can be asked")

// Password asks for a password without showing what is typed. Where in is no terminal it is ErrNobody: a password from a pipe
// has a flag of its own.
func Password(in any, out io.Writer, question string) (string, error) {
	f, ok := in.(file)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", ErrNobody
	}
	fmt.Fprint(out, question)
	typed, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(out) // the one that was typed is not shown
	if err != nil {
		return "", fmt.Errorf("read a password: %w", err)
	}
	return string(typed), nil
}

// Confirm asks a question that is answered by yes or no; anything but y or yes is no. Where in is no terminal it is ErrNobody.
func Confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	if !Is(in) {
		return false, ErrNobody
	}
	return confirm(in, out, question)
}

func confirm(in io.Reader, out io.Writer, question string) (bool, error) {
	fmt.Fprintf(out, "%s [y/N] ", question)
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read an answer: %w", err)
	}
	switch strings.ToLower(strings.TrimSpace(line)) {
	case "y", "yes":
		return true, nil
	}
	return false, nil
}
