// Package lru is a map in bounded memory that forgets the least recently used entry,
// split into parts with a lock each, so that callers seldom wait for each other.
package lru
