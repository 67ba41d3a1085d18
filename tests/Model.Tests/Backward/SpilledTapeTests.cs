// A tape in a file: the same gradients bit for bit, nothing left on the disk, and a disk that is too small is said before.
using IptNative.Kernels;
using IptNative.Kernels.Devices;
using IptNative.Kernels.Ops;
using IptNative.Model.Backward;
using IptNative.Model.Blocks;
using IptNative.Model.Config;
using IptNative.Model.Forward;
using IptNative.Model.Tests.Forward;
using Xunit;

namespace IptNative.Model.Tests.Backward;

public sealed class SpilledTapeTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("iptnative-spill-").FullName;
    private readonly MemoryCheckpoint _checkpoint = MemoryCheckpoint.Random(OddShapes.WideHeads, seed: 4);

    public void Dispose()
    {
        _checkpoint.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Theory]
    [InlineData(Activations.Blocks, DType.F32)]
    [InlineData(Activations.Sublayers, DType.F32)]
    [InlineData(Activations.Full, DType.F32)]
    [InlineData(Activations.Full, DType.BF16)]
    public void GradientsAreThoseOfATapeInMemory(Activations activations, DType tape)
    {
        var options = new GradientOptions { Forward = ForwardEngine.Native, Activations = activations, Tape = tape };
        // A short batch, a longer one, for which the file grows, and the first again.
        foreach ((float[] expected, float[] spilled) in Gradients(options).Zip(Gradients(options with { SpillFolder = _folder })))
            Assert.Equal(expected, spilled);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
    }

    [Fact]
    public void TheFileHasNoNameWhileItIsUsed()
    {
        if (OperatingSystem.IsWindows())
            return; // there it is removed when it is closed
        using var file = new SpillFile(_folder);
        nint first = file.Take(10_000);
        Assert.Equal(first, file.Take(9_000));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
        Assert.Equal(10_000, file.Length);
        file.Take(20_000);
        Assert.Equal(20_000, file.Length);
    }

    [Fact]
    public void WhatTheDiskCannotHoldIsSaidBefore()
    {
        Assert.Equal("tape: spilling the activation tape needs 3072 MiB, the disk has 1024 MiB free. Free some space, choose a folder on another disk, or keep less: --activations blocks.",
            Assert.Throws<IOException>(() => SpillFile.RequireFreeSpace("tape", 3L << 30, 1L << 30)).Message);
        Assert.Contains("needs 29696 KiB, the disk has 100 KiB free", Assert.Throws<IOException>(() => SpillFile.RequireFreeSpace("tape", 29L << 20, 100L << 10)).Message, StringComparison.Ordinal);
        Assert.Contains("needs 300 bytes, the disk has 0 bytes free", Assert.Throws<IOException>(() => SpillFile.RequireFreeSpace("tape", 300, 0)).Message, StringComparison.Ordinal);
        SpillFile.RequireFreeSpace("tape", 1, 1);
        using var file = new SpillFile(_folder);
        // More than any disk has; nothing is left of the attempt.
        Assert.Contains("spilling the activation tape needs", Assert.Throws<IOException>(() => file.Take(1L << 60)).Message, StringComparison.Ordinal);
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder));
        using var nowhere = new SpillFile(Path.Combine(_folder, "none"));
        Assert.Contains("there is no such folder", Assert.Throws<DirectoryNotFoundException>(() => nowhere.Take(1)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OnnxRuntimeDoesNotSpill()
    {
        using FrozenT5 model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 1 });
        Assert.Contains("--forward native", Assert.Throws<ArgumentException>(() => new GradientPass(_checkpoint, model, new GradientOptions { SpillFolder = _folder })).Message, StringComparison.Ordinal);
    }

    private List<float[]> Gradients(GradientOptions options)
    {
        using FrozenT5 model = FrozenT5.Load(_checkpoint, new FrozenT5Options { Threads = 2 });
        T5Config config = _checkpoint.Config;
        using var pass = new GradientPass(_checkpoint, model, options);
        var random = new Random(6);
        using var prompts = new PromptMemory(model.Device, config.DModel, [.. Enumerable.Range(0, 3 * config.DModel).Select(_ => random.NextSingle() - 0.5f)], [3]);
        using DeviceBuffer gradient = model.Device.Allocate(DType.F32, 3 * config.DModel, "gradient");
        var found = new List<float[]>();
        foreach (int length in (int[])[5, 301, 5])
        {
            Elementwise.Fill(model.Device, gradient.Tensor, 3 * config.DModel, 0);
            var batch = new T5Batch();
            batch.Add([.. Enumerable.Range(0, length).Select(i => i % config.VocabSize)], [1, 2, 3], 0);
            batch.Add([4, 5], [6], 0);
            pass.Run(batch, prompts.Table, [0, 0], [0.25], new double[1], gradient.Tensor);
            found.Add(PromptMemory.Floats(gradient.Tensor).ToArray());
        }
        return found;
    }
}
