/* Calls the check from a program that has no Rust runtime. */
int identmap_nostd_check(void);

/* Named by the unwinding tables of the host's core; nothing unwinds. */
void rust_eh_personality(void)
{
}

int main(void)
{
	return identmap_nostd_check();
}
