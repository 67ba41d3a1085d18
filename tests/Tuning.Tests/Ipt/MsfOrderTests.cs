using IptNative.Tuning.Ipt;
using Xunit;

namespace IptNative.Tuning.Tests.Ipt;

public sealed class MsfOrderTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(17)]
    public void BalancedMeansEveryTaskEquallyOften(int seed)
    {
        int[] counts = [3, 7, 1];
        var order = new MsfOrder(counts, seed, balanced: true);
        (int Task, int Example)[] drawn = [.. Enumerable.Range(0, 63).Select(i => order.At(i))];
        for (int task = 0; task < counts.Length; task++)
        {
            int[] examples = [.. drawn.Where(d => d.Task == task).Select(d => d.Example)];
            Assert.Equal(21, examples.Length);
            Assert.All(Enumerable.Range(0, counts[task]), e => Assert.Equal(21 / counts[task], examples.Count(x => x == e)));
        }
        // Each three places hold each task once, so that a batch mixes them.
        Assert.All(drawn.Chunk(3), three => Assert.Equal(3, three.Select(d => d.Task).Distinct().Count()));
    }

    [Fact]
    public void OtherwiseEveryExampleEquallyOften()
    {
        int[] counts = [3, 7, 1];
        var order = new MsfOrder(counts, 4, balanced: false);
        var drawn = Enumerable.Range(0, 22).Select(i => order.At(i)).ToList();
        Assert.Equal(11, drawn.Distinct().Count());
        Assert.All(drawn, d => Assert.InRange(d.Example, 0, counts[d.Task] - 1));
        Assert.All(drawn.GroupBy(d => d), g => Assert.Equal(2, g.Count()));
    }

    [Fact]
    public void APlaceIsAlwaysTheSame()
    {
        var order = new MsfOrder([5, 9], 2, balanced: true);
        (int, int)[] forth = [.. Enumerable.Range(0, 40).Select(i => order.At(i))];
        Assert.Equal(forth, Enumerable.Range(0, 40).Select(i => new MsfOrder([5, 9], 2, balanced: true).At(i)));
    }
}
