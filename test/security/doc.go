// Package security has the tests of what strangers, and files that change, can do to a member: real processes, attacked over
// their ports.
//
//	-security.long  the long forms, as make security runs them: see each test
//
// The short forms run in make test.
package security
