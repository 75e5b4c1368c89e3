package store

// OpenMigrating is Open with other migrations than the program's own.
var OpenMigrating = open

// SumColumns are the columns that are summed up.
var SumColumns = sumColumns
