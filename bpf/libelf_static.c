// SPDX-License-Identifier: GPL-2.0
/*
 * elfutils 0.192 (trixie) ships a libelf.a that refers to two functions which
 * it does not contain, so that nothing can be linked with it statically. They
 * serve only elf_getdata_rawchunk(), which libbpf does not use: a link that
 * pulled it in would fail on eu_tsearch(). Weak: a complete libelf.a prevails.
 */
void eu_search_tree_init(void *tree);
void eu_search_tree_fini(void *tree, void (*free_node)(void *));

/* The tree is part of a zeroed Elf: empty already. */
__attribute__((weak)) void eu_search_tree_init(void *tree)
{
	(void)tree;
}

__attribute__((weak)) void eu_search_tree_fini(void *tree, void (*free_node)(void *))
{
	(void)tree;
	(void)free_node;
}
