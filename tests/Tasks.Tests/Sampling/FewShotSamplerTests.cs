using IptNative.Tasks.Data;
using IptNative.Tasks.Sampling;
using Xunit;

namespace IptNative.Tasks.Tests.Sampling;

public sealed class FewShotSamplerTests
{
    private static TaskExample[] Lines(int count, Func<int, string> answer) => [.. Enumerable.Range(0, count).Select(i => new TaskExample($"{i}", [answer(i)]))];

    [Fact]
    public void OtherTasksTakeKAndTheNextK()
    {
        // The order that numpy gives 10 lines with seed 100: 7 6 1 5 4 2 0 3 9 8.
        FewShotSample sample = FewShotSampler.Sample(Lines(10, i => $"a{i}"), 3, 100, perLabel: false);
        Assert.Equal(["7", "6", "1"], sample.Train.Select(e => e.Input));
        Assert.Equal(["5", "4", "2"], sample.Dev.Select(e => e.Input));
    }

    [Fact]
    public void ClassificationTakesKPerLabelInOrderOfAppearance()
    {
        // The same order; labels by parity: odd 7 1 5 3 9, even 6 4 2 0 8; odd comes first.
        FewShotSample sample = FewShotSampler.Sample(Lines(10, i => i % 2 == 0 ? "even" : "odd"), 2, 100, perLabel: true);
        Assert.Equal(["7", "1", "6", "4"], sample.Train.Select(e => e.Input));
        Assert.Equal(["5", "3", "2", "0"], sample.Dev.Select(e => e.Input));
    }

    [Fact]
    public void ARareLabelGivesWhatItHas()
    {
        FewShotSample sample = FewShotSampler.Sample(Lines(10, i => i == 8 ? "rare" : "common"), 2, 100, perLabel: true);
        Assert.Equal(["7", "6", "8"], sample.Train.Select(e => e.Input));
        Assert.Equal(["1", "5"], sample.Dev.Select(e => e.Input));
    }

    [Fact]
    public void WhatIsImpossibleIsNamed()
    {
        Assert.Contains("k is 0; expected at least 1", Assert.Throws<ArgumentException>(() => FewShotSampler.Sample(Lines(3, _ => "a"), 0, 1, true)).Message, StringComparison.Ordinal);
        Assert.Contains("seed is -1", Assert.Throws<ArgumentException>(() => FewShotSampler.Sample(Lines(3, _ => "a"), 1, -1, true)).Message, StringComparison.Ordinal);
        Assert.Contains("3 examples with k 3 leave none for development", Assert.Throws<ArgumentException>(() => FewShotSampler.Sample(Lines(3, _ => "a"), 3, 1, false)).Message, StringComparison.Ordinal);
    }
}
