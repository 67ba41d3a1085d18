// A text whose attention scores no machine can hold is refused with numbers, before anything is allocated.
using IptNative.Model.Backward;
using IptNative.Model.Forward;
using Xunit;

namespace IptNative.Model.Tests.Forward;

public sealed class AttentionMemoryTests
{
    [Fact]
    public void HalfOfTheMemoryIsTheLimit()
    {
        // (2 examples + the bias) x 3 heads x 1000 x 1000 x 4 bytes = 36 MB.
        BatchChecks.RequireAttentionMemory(2, 1000, OddShapes.TiedRelu, 72_000_000);
        var error = Assert.Throws<InsufficientMemoryException>(() => BatchChecks.RequireAttentionMemory(2, 1000, OddShapes.TiedRelu, 71_999_999));
        Assert.Contains("2 example(s) of 1000 positions need 0.0 GiB for attention", error.Message, StringComparison.Ordinal);
        // 2^31 - 1 positions overflow no integer.
        Assert.Throws<InsufficientMemoryException>(() => BatchChecks.RequireAttentionMemory(int.MaxValue, int.MaxValue, OddShapes.TiedRelu, long.MaxValue));
    }

    [Fact]
    public void AHopelessTextNeverReachesTheModel()
    {
        // Our own attention never holds its scores whole: such a text takes it long, but no more memory than its rows do.
        using FrozenT5 model = FrozenT5.Load(MemoryCheckpoint.Random(OddShapes.TiedRelu, 1), new FrozenT5Options { Generation = ForwardEngine.Ort });
        var batch = new T5Batch();
        // 4 million positions: 3 x 2^44 x 8 bytes, 384 TiB.
        batch.Add(new int[1 << 22]);
        var error = Assert.Throws<InsufficientMemoryException>(() => model.Encode(batch));
        Assert.Contains("4194304 positions", error.Message, StringComparison.Ordinal);
        Assert.Contains("Use shorter texts (--max-source-length cuts them) or a smaller batch.", error.Message, StringComparison.Ordinal);
    }
}
