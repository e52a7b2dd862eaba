// Package tlsconf turns files into TLS: what a member shows to those who connect, what it shows when it connects itself, and
// whom it believes.
//
// A Side is one set of files: towards clients, or between members. Its files are looked at again at each handshake, and
// now and then in between, so that a certificate, a list of authorities or a list of revoked certificates takes effect by the
// change of its file alone. A new file that is broken is named in the log, and what was there before stays in force: no
// handshake fails because somebody writes files one after the other.
//
//	Shape   files -> source (what was read last, and the stamp of the file) -> state (immutable) -> tls.Config of one handshake
//	Units   times are wall clock; files are PEM, revocation lists also DER
//	Errors  Open names each file that is missing, is something else than it should be, or does not fit another, with its
//	        flag; a handshake fails with ErrRevoked, ErrNotAllowed, or what crypto/tls says
//	Source  etcd 3.7, client/pkg/transport, for which checks are made where; RFC 5280 for who may sign
package tlsconf
