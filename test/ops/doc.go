// Package ops asks of real members what operators ask of them: space, quotas, defragmentation, several on one machine.
package ops
