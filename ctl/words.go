package ctl

import (
	"strconv"
	"strings"
	"unicode"
)

// words splits a line of an interactive command: at blanks, but for what stands in quotes. 'Single' quotes hold what is between
// them as it is, "double" ones a string with the escapes of Go. A quote within a word is part of it; one that is never closed is
// passed over, as etcd's tool does.
//
//	Errors  strconv.ErrSyntax, for an escape that is none
func words(line string) ([]string, error) {
	var out []string
	for line != "" {
		switch c := line[0]; {
		case unicode.IsSpace(rune(c)):
			line = line[1:]
		case c == '"' || c == '\'':
			quoted, ok := quotedPrefix(line)
			if !ok {
				line = line[1:]
				continue
			}
			line = line[len(quoted):]
			word := quoted[1 : len(quoted)-1]
			if c == '"' {
				var err error
				if word, err = strconv.Unquote(quoted); err != nil {
					return nil, err
				}
			}
			out = append(out, word)
		default:
			end := strings.IndexFunc(line, unicode.IsSpace)
			if end < 0 {
				end = len(line)
			}
			out = append(out, line[:end])
			line = line[end:]
		}
	}
	return out, nil
}

// quotedPrefix is what line begins with, from its first quote to the one that closes it. In double quotes a backslash hides the
// byte behind it.
func quotedPrefix(line string) (string, bool) {
	for i := 1; i < len(line); i++ {
		switch {
		case line[i] == line[0]:
			return line[:i+1], true
		case line[i] == '\\' && line[0] == '"':
			i++
		}
	}
	return "", false
}
