// The source of the frozen machine code: the bf16 tile kernels, one instruction a line. Test-only: the product holds the bytes that this makes
// (BF16Table.cs), and FrozenCodeTests compares the two. After a wanted change that test writes the new table.
using System.Globalization;
using System.Text;
using Iced.Intel;
using IptNative.Kernels.Cpu;
using static Iced.Intel.AssemblerRegisters;

namespace IptNative.Kernels.Tests.MachineCode;

/// <summary>
/// Strips of up to 12 (or 4) rows of A times panels of 32 (or 16) columns of B, added into float32 accumulators by VDPBF16PS.
/// System V call, one pointer to a <see cref="TileCall"/> in rdi; only registers that the callee may destroy, no stack, vzeroupper before it returns.
/// </summary>
internal static class BF16Assembler
{
    private const int EntryAlignment = 64;
    private static readonly AssemblerRegisterZMM[] Zmm =
    [
        zmm0, zmm1, zmm2, zmm3, zmm4, zmm5, zmm6, zmm7, zmm8, zmm9, zmm10, zmm11, zmm12, zmm13, zmm14, zmm15,
        zmm16, zmm17, zmm18, zmm19, zmm20, zmm21, zmm22, zmm23, zmm24, zmm25, zmm26, zmm27, zmm28, zmm29, zmm30, zmm31,
    ];

    // 24 accumulators at most, two vectors of B, and six broadcasts in turn, so that none waits for the one before it.
    private const int FirstB = 24;
    private const int FirstBroadcast = 26;
    private const int Broadcasts = 6;

    /// <summary>All kernels one after the other, each at a multiple of 64 bytes, the gaps filled with int3.</summary>
    public static (byte[] Code, int[] Entries) AssembleAll()
    {
        var stream = new MemoryStream();
        int[] entries =
        [
            Append(stream, BF16Tile.Rows, BF16Tile.Columns), Append(stream, BF16Tile.Rows, BF16Tile.EdgeColumns),
            Append(stream, BF16Tile.EdgeRows, BF16Tile.Columns), Append(stream, BF16Tile.EdgeRows, BF16Tile.EdgeColumns),
        ];
        return (stream.ToArray(), entries);
    }

    /// <summary>The text of BF16Table.cs.</summary>
    public static string Source(byte[] code, int[] entries)
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $$"""
            // Made by tests/Kernels.Tests/MachineCode/BF16Assembler.cs, which says what these bytes are; FrozenCodeTests compares them. Not edited by hand.
            namespace IptNative.Kernels.Cpu;

            /// <summary>The frozen code of the bf16 tiles.</summary>
            internal static class BF16Table
            {
                /// <summary>Where the 12x32, 12x16, 4x32 and 4x16 tiles begin.</summary>
                public static ReadOnlySpan<int> Entries => [{{string.Join(", ", entries)}}];

                /// <summary><see cref="CodeTable.Fnv1a"/> of the code.</summary>
                public const ulong Checksum = 0x{{CodeTable.Fnv1a(code):x16}};

                /// <summary>{{code.Length}} bytes of x86-64.</summary>
                public static ReadOnlySpan<byte> Code =>
                [

            """);
        foreach (byte[] line in code.Chunk(20))
            text.Append("        ").AppendJoin(", ", line.Select(b => $"0x{b:x2}")).Append(",\n");
        return text.Append("    ];\n}\n").ToString();
    }

    private static int Append(MemoryStream stream, int rows, int columns)
    {
        while (stream.Length % EntryAlignment != 0)
            stream.WriteByte(0xCC);
        int entry = (int)stream.Length;
        Tile(rows, columns).Assemble(new StreamCodeWriter(stream), rip: 0);
        return entry;
    }

    private static Assembler Tile(int rows, int columns)
    {
        int vectors = columns / 16;
        var c = new Assembler(64);
        Label strip = c.CreateLabel(), done = c.CreateLabel(), panel = c.CreateLabel(), masked = c.CreateLabel(), pair = c.CreateLabel(), add = c.CreateLabel(), next = c.CreateLabel();
        AssemblerRegister64 call = rdi, a = rax, b = rsi, tile = rdx, panels = rcx, stepC = r8, pairs = r9, left = r10, ahead = r11;

        c.endbr64();
        c.Label(ref strip);
        c.mov(b, __qword_ptr[call + TileCall.OffsetB]);
        c.mov(tile, __qword_ptr[call + TileCall.OffsetC]);
        c.mov(panels, __qword_ptr[call + TileCall.OffsetPanels]);
        c.mov(stepC, __qword_ptr[call + TileCall.OffsetStepC]);
        // Relative to A, which moves on by 4 bytes a pair.
        c.mov(ahead, __qword_ptr[call + TileCall.OffsetAhead]);
        c.sub(ahead, __qword_ptr[call + TileCall.OffsetA]);

        c.Label(ref panel);
        // Whole vectors, but for the last panel.
        c.kxnorw(k1, k1, k1);
        c.kxnorw(k2, k2, k2);
        c.cmp(panels, 1);
        c.jne(masked);
        c.kmovw(k1, __word_ptr[call + TileCall.OffsetMaskX]);
        c.kmovw(k2, __word_ptr[call + TileCall.OffsetMaskY]);
        c.Label(ref masked);
        // C is only touched after the sums; asked for now, it has come from L3 or memory by then. Rows that do not exist are asked for too: no fault.
        c.mov(left, tile);
        for (int row = 0; row < rows; row++)
        {
            c.prefetcht0(__byte_ptr[left]);
            c.prefetcht0(__byte_ptr[left + columns * 4 - 4]);
            if (row < rows - 1)
                c.add(left, stepC);
        }
        for (int i = 0; i < rows * vectors; i++)
            c.vpxord(Zmm[i], Zmm[i], Zmm[i]);
        c.mov(a, __qword_ptr[call + TileCall.OffsetA]);
        c.mov(pairs, __qword_ptr[call + TileCall.OffsetPairs]);

        c.Label(ref pair);
        c.prefetcht1(__byte_ptr[ahead + a]);
        for (int v = 0; v < vectors; v++)
            c.vmovups(Zmm[FirstB + v], __zmmword_ptr[b + 64 * v]);
        for (int row = 0; row < rows; row++)
        {
            AssemblerRegisterZMM broadcast = Zmm[FirstBroadcast + row % Broadcasts];
            c.vpbroadcastd(broadcast, __dword_ptr[a + BF16Tile.StripStep * row]);
            for (int v = 0; v < vectors; v++)
                c.vdpbf16ps(Zmm[row * vectors + v], Zmm[FirstB + v], broadcast);
        }
        c.add(a, 4);
        c.add(b, 64 * vectors);
        c.dec(pairs);
        c.jne(pair);

        AssemblerRegisterZMM alpha = Zmm[FirstB];
        c.vbroadcastss(alpha, __dword_ptr[call + TileCall.OffsetAlpha]);
        c.mov(left, __qword_ptr[call + TileCall.OffsetRows]);
        c.mov(a, tile);
        c.cmp(__dword_ptr[call + TileCall.OffsetAccumulate], 0);
        c.jne(add);
        StoreRows(c, rows, vectors, accumulate: false, alpha, a, left, stepC, next);
        c.jmp(next);
        c.Label(ref add);
        StoreRows(c, rows, vectors, accumulate: true, alpha, a, left, stepC, next);

        c.Label(ref next);
        c.add(tile, columns * 4);
        c.add(ahead, __qword_ptr[call + TileCall.OffsetStepAhead]);
        c.dec(panels);
        c.jne(panel);
        // The next strip of A and of C, with the same panels.
        c.dec(__qword_ptr[call + TileCall.OffsetStrips]);
        c.je(done);
        c.add(__qword_ptr[call + TileCall.OffsetA], BF16Tile.StripStep * rows);
        c.imul(stepC, stepC, rows);
        c.add(__qword_ptr[call + TileCall.OffsetC], stepC);
        c.jmp(strip);
        c.Label(ref done);
        c.vzeroupper();
        c.ret();
        return c;
    }

    // C's row = alpha * sums (+ C's row), only where the masks say that columns exist, and only as many rows as exist.
    private static void StoreRows(Assembler c, int rows, int vectors, bool accumulate, AssemblerRegisterZMM alpha,
        AssemblerRegister64 to, AssemblerRegister64 left, AssemblerRegister64 step, Label done)
    {
        for (int row = 0; row < rows; row++)
        {
            for (int v = 0; v < vectors; v++)
            {
                AssemblerRegisterZMM sums = Zmm[row * vectors + v];
                AssemblerMemoryOperand target = __zmmword_ptr[to + 64 * v];
                c.vmulps(sums, sums, alpha);
                if (accumulate)
                    c.vaddps(v == 0 ? sums.k1 : sums.k2, sums, target);
                c.vmovups(v == 0 ? target.k1 : target.k2, sums);
            }
            if (row == rows - 1)
                return;
            c.dec(left);
            c.je(done);
            c.add(to, step);
        }
    }
}
