/* Wine 8 has no bcryptprimitives.dll, which the runtime of Go asks for random bytes when a program starts. */
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *into, SIZE_T size)
{
	return RtlGenRandom(into, (ULONG)size);
}
