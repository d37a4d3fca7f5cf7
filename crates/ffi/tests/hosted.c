/* Named by the unwinding tables of a hosted target's core; nothing unwinds. */
void rust_eh_personality(void);
void rust_eh_personality(void)
{
}
