// The bf16 tiles as functions, once they have been loaded, compared and tested; or the reason why they are not. What they compute with: BF16Gemm.cs.
using IptNative.Kernels.Devices;

namespace IptNative.Kernels.Cpu;

/// <summary>Loaded machine code; refused code has only a status.</summary>
internal sealed unsafe class BF16Kernels : IDisposable
{
    private static readonly Lazy<BF16Kernels> SharedKernels = new(() => Load(MachineCodeHost.Ask(), CodeTable.Frozen()));

    private readonly ExecutablePages? _pages;

    private BF16Kernels(ExecutablePages? pages, Entries functions, MachineCodeStatus status)
    {
        _pages = pages;
        Functions = functions;
        Status = status;
    }

    /// <summary>The process' own, loaded when first asked for.</summary>
    public static BF16Kernels Shared => SharedKernels.Value;

    public MachineCodeStatus Status { get; }

    /// <summary>Callable only where the status says so.</summary>
    public Entries Functions { get; }

    /// <summary>Where the code lies; 0 where it was refused.</summary>
    public nint Address => _pages?.Address ?? 0;

    /// <summary>Asks whether it may, loads, compares what lies in memory with the checksum, and only then runs it: against known products.</summary>
    public static BF16Kernels Load(MachineCodeHost host, CodeTable table)
    {
        if (host.Obstacle() is { } obstacle)
            return Refused(obstacle);
        ExecutablePages? pages = ExecutablePages.Load(host.Pages, table.Code, out string reason);
        if (pages is null)
            return Refused(reason);
        if (CodeTable.Fnv1a(pages.Content) != table.Checksum)
            return Refused(pages, $"the code table is damaged: found checksum {CodeTable.Fnv1a(pages.Content):x16}, expected {table.Checksum:x16}; reinstall");
        var functions = new Entries(pages.Address, table.Entries);
        if (TileSelfTest.FirstFailure(functions) is { } failure)
            return Refused(pages, $"the self-test failed: {failure}");
        return new(pages, functions, new(true, $"AVX512-BF16 machine code, {table.Code.Length} bytes, self-test passed"));
    }

    /// <summary>The tiles' addresses; a value, so that pieces of work carry it without a reference.</summary>
    internal readonly struct Entries(nint address, int[] offsets)
    {
        private readonly nint _whole = address + offsets[0], _wholeNarrow = address + offsets[1], _edge = address + offsets[2], _edgeNarrow = address + offsets[3];

        /// <summary>Runs a tile over strips and panels. A normal call out of managed code, so that the collector need not wait for it.</summary>
        /// <param name="edgeRows">The low tile.</param>
        /// <param name="edgeColumns">The narrow tile.</param>
        /// <param name="call">What is the same for several calls: steps, pairs, rows, alpha, accumulate and what is fetched ahead.</param>
        /// <param name="a">First strip.</param>
        /// <param name="b">First panel.</param>
        /// <param name="c">First element of C.</param>
        /// <param name="strips">Strips one below the other, each of the call's rows.</param>
        /// <param name="panels">Panels.</param>
        /// <param name="last">Columns of the last panel; 0: a whole one.</param>
        public void Run(bool edgeRows, bool edgeColumns, TileCall* call, uint* a, uint* b, float* c, int strips, int panels, int last)
        {
            call->A = a;
            call->B = b;
            call->C = c;
            call->Strips = strips;
            call->Panels = panels;
            call->MaskX = BF16Gemm.Mask(last == 0 ? 16 : last);
            call->MaskY = BF16Gemm.Mask(last == 0 ? 16 : last - 16);
            if (call->Ahead == null)
                call->Ahead = (byte*)a;
            nint entry = edgeRows ? edgeColumns ? _edgeNarrow : _edge : edgeColumns ? _wholeNarrow : _whole;
            ((delegate* unmanaged<TileCall*, void>)entry)(call);
        }
    }

    public void Dispose() => _pages?.Dispose();

    private static BF16Kernels Refused(ExecutablePages pages, string reason)
    {
        pages.Dispose();
        return Refused(reason);
    }

    private static BF16Kernels Refused(string reason) => new(null, default, new(false, $"managed kernels instead of AVX512-BF16 machine code: {reason}"));
}
