package postgres

func beChild() {}
