// The emulation must see what a GPU would suffer from: each kernel here is wrong in one way. ILGPU's own CPU accelerator sees little of this.
#if ILGPU_EMULATION
using ILGPU;
using ILGPU.Runtime;
using IptNative.Kernels.Gpu;
using Xunit;

namespace IptNative.Kernels.Tests.Gpu;

public sealed class EmulationTests : IDisposable
{
    private readonly Accelerator _accelerator = new(4, 16, 2);
    private readonly MemoryBuffer _memory;

    public EmulationTests() => _memory = _accelerator.AllocateRaw(64, sizeof(float));

    public void Dispose()
    {
        _memory.Dispose();
        _accelerator.Dispose();
    }

    [Fact]
    public void ABarrierThatSomeThreadsLeaveOutIsDivergent() =>
        Assert.Contains("has ended: a divergent barrier. A GPU hangs here.", Failure(SkipBarrier));

    [Fact]
    public void ABarrierAtAnotherLineIsDivergent() => Assert.Contains("divergent", Failure(TwoBarriers));

    [Fact]
    public void AShuffleThatALaneLeavesOutIsDivergent() => Assert.Contains("a divergent barrier", Failure(SkipShuffle));

    [Fact]
    public void AnIndexOutsideTheViewIsNamed() => Assert.Contains("EmulationTests.Outside, group (0, 0, 0), thread 8 reaches element 64 of a view of 64 (Single).", Failure(Outside));

    [Fact]
    public void AViewOfMemoryThatIsNotAllocatedIsRefused() =>
        Assert.Contains("inside no allocation", Assert.Throws<InvalidOperationException>(() => new ArrayView<float>(_memory, 0, 65)).Message);

    [Fact]
    public void FreedMemoryIsNotReached()
    {
        MemoryBuffer gone = _accelerator.AllocateRaw(4, sizeof(float));
        var view = new ArrayView<float>(gone, 0, 4);
        gone.Dispose();
        Assert.Contains("was freed", Assert.Throws<InvalidOperationException>(() => view[0]).Message);
    }

    [Fact]
    public void SixteenByteAccessesMustBeAligned() => Assert.Contains("no multiple of 16", Failure(Misaligned));

    [Fact]
    public void TwoThreadsThatWriteOneElementRace() => Assert.Contains("without a barrier between", Failure(WriteWrite));

    [Fact]
    public void ReadingWhatAnotherThreadWritesRaces() => Assert.Contains("without a barrier between", Failure(ReadWrite));

    [Fact]
    public void SharedMemoryWithoutABarrierRaces() => Assert.Contains("without a barrier between", Failure(SharedRace));

    [Fact]
    public void GroupsHaveNoBarrierBetweenThem() => Assert.Contains("without a barrier between", Failure(AcrossGroups));

    [Fact]
    public void ShufflesOrderAWarpAndBarriersAGroup()
    {
        Launch(Ordered);
        var sum = new float[64];
        unsafe
        {
            new ReadOnlySpan<float>((void*)_memory.NativePtr, 64).CopyTo(sum);
        }
        // Threads 0 to 15 hand their numbers on by one.
        Assert.Equal(Enumerable.Range(0, 16).Select(i => (float)((i + 1) % 16)), sum[..16]);
        Assert.Equal(120f * 2, sum[16]);
    }

    [Fact]
    public void WhatILGPUCannotTakeIsRefused()
    {
        Assert.Contains("is not blittable: WithBool.<Flag>k__BackingField is a Boolean.", Assert.Throws<NotSupportedException>(() => _accelerator.LoadKernel<WithBool>(TakeBool)).Message);
        int captured = 1;
        Assert.Contains("no static method", Assert.Throws<NotSupportedException>(() => _accelerator.LoadKernel<Arguments>(a => a.X[captured] = 0)).Message);
    }

    private string Failure(Action<Arguments> kernel) => Assert.Throws<InvalidOperationException>(() => Launch(kernel)).Message;

    private void Launch(Action<Arguments> kernel) =>
        _accelerator.LoadKernel(kernel)(_accelerator.DefaultStream, new KernelConfig(new Index3D(2, 1, 1), new Index3D(16, 1, 1)), new Arguments { X = new ArrayView<float>(_memory, 0, 64) });

    private static void SkipBarrier(Arguments a)
    {
        if (Group.IdxX < 8)
            Group.Barrier();
    }

    private static void TwoBarriers(Arguments a)
    {
        if (Group.IdxX < 8)
            Group.Barrier();
        else
            Group.Barrier();
    }

    private static void SkipShuffle(Arguments a)
    {
        if (Warp.LaneIdx != 2)
            Warp.ShuffleXor(1, 1);
    }

    private static void Outside(Arguments a) => a.X[56 + Group.IdxX] = Grid.IdxX == 0 ? 1 : 2;

    private static void Misaligned(Arguments a) => a.X.SubView(1, 8).Cast<F4>()[0] = default;

    private static void WriteWrite(Arguments a) => a.X[0] = Group.IdxX;

    private static void ReadWrite(Arguments a)
    {
        if (Grid.IdxX == 0)
            a.X[Group.IdxX] = a.X[(Group.IdxX + 1) % 16] == 1 ? 2 : 3;
    }

    private static void SharedRace(Arguments a)
    {
        ArrayView<float> shared = SharedMemory.Allocate<float>(16);
        shared[Group.IdxX] = 1;
        a.X[16 * Grid.IdxX + Group.IdxX] = shared[Group.IdxX ^ 8];
    }

    private static void AcrossGroups(Arguments a)
    {
        if (Group.IdxX == 0)
            a.X[5] = Grid.IdxX;
    }

    private static void Ordered(Arguments a)
    {
        ArrayView<float> shared = SharedMemory.Allocate<float>(16);
        shared[Group.IdxX] = Group.IdxX;
        Group.Barrier();
        float next = shared[(Group.IdxX + 1) % 16];
        if (Grid.IdxX == 0)
            a.X[Group.IdxX] = next;
        // Inside a warp a shuffle is enough.
        Group.Barrier();
        float mine = Group.IdxX;
        for (int mask = 2; mask > 0; mask >>= 1)
            mine += Warp.ShuffleXor(mine, mask);
        if (Warp.LaneIdx == 0)
            shared[Warp.WarpIdx] = mine;
        Warp.Barrier();
        if (Warp.LaneIdx == 1)
            shared[Warp.WarpIdx] = 2 * shared[Warp.WarpIdx];
        Group.Barrier();
        if (Group.IdxX == 0 && Grid.IdxX == 1)
            a.X[16] = shared[0] + shared[1] + shared[2] + shared[3];
    }

    private static void TakeBool(WithBool a) => a.X[0] = a.Flag ? 1 : 0;

    private struct Arguments
    {
        public ArrayView<float> X;
    }

    private readonly record struct WithBool(ArrayView<float> X, bool Flag);
}
#endif
