using System.Text.Json.Nodes;
using Xunit;

namespace IptNative.Server.Tests;

/// <summary>The page at /, in a real browser.</summary>
public sealed class PageTests
{
    [Fact]
    public async Task TwoPromptsAnswerSideBySide()
    {
        Assert.SkipWhen(Browser.Program is null, "no Chromium is installed (Debian package chromium)");
        await using RunningServer running = await RunningServer.Start();
        const string Text = "[wiki_split] The cat <b>sat</b> on the mat .";
        string left = (string)(await running.Complete(new JsonObject { ["model"] = "p0", ["prompt"] = Text, ["max_tokens"] = 20 }))["choices"]![0]!["text"]!;
        string right = (string)(await running.Complete(new JsonObject { ["model"] = "p2", ["prompt"] = Text, ["max_tokens"] = 20 }))["choices"]![0]!["text"]!;

        await using Browser browser = await Browser.Open(running.Server.Address);
        await browser.Until("document.getElementById('left-prompt')?.options.length === 4");
        Assert.Equal("3 prompts on one frozen model.", (string?)await browser.Evaluate("document.getElementById('summary').textContent"));
        Assert.Equal("p0", (string?)await browser.Evaluate("document.getElementById('left-prompt').value"));
        await browser.Evaluate($"document.getElementById('text').value = {JsonValue.Create(Text)!.ToJsonString()}; document.getElementById('right-prompt').value = 'p2'; document.getElementById('max-tokens').value = 20; document.getElementById('run').click()");
        await browser.Until("document.getElementById('left-figures').textContent && document.getElementById('right-figures').textContent");
        Assert.Equal(left, (string?)await browser.Evaluate("document.getElementById('left-answer').textContent"));
        Assert.Equal(right, (string?)await browser.Evaluate("document.getElementById('right-answer').textContent"));
        Assert.Contains("tokens", (string?)await browser.Evaluate("document.getElementById('left-figures').textContent"), StringComparison.Ordinal);
        Assert.Equal(true, (bool?)await browser.Evaluate("document.getElementById('stop').disabled"));

        // A refusal is shown where the answer would be.
        await browser.Evaluate("document.getElementById('max-tokens').value = 100000; document.getElementById('run').click()");
        await browser.Until("document.getElementById('left-answer').classList.contains('error')");
        Assert.Contains("'max_tokens' is 100000", (string?)await browser.Evaluate("document.getElementById('left-answer').textContent"), StringComparison.Ordinal);
        Assert.Empty(running.Log);
    }
}
