package store

// OpenMigrating is Open with other migrations than the program's own.
var OpenMigrating = open
